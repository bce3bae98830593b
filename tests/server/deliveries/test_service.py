"""DeliveryService over the wire."""

from pathlib import Path

import pytest

from portway.rpc.channel import PortwayChannel, open_channel
from portway.rpc.errors import InvalidInput, NotFound, NotPermitted, WrongState
from portway.v1 import adapter_pb2, delivery_pb2
from tests.asking import ask
from tests.fakes.adapter_client import an_adapter
from tests.fakes.adapter_host import adapter_host
from tests.fakes.engine import text_of
from tests.waiting import until


async def states(channel: PortwayChannel) -> list["delivery_pb2.DeliveryState.ValueType"]:
    page = await ask(channel, delivery_pb2.ListDeliveriesRequest())
    return [one.state for one in page.deliveries]


async def test_a_delivery_is_seen_in_each_of_its_states(tmp_path: Path) -> None:
    async with (
        adapter_host(tmp_path) as host,
        open_channel(host.address, token=host.tokens.operator) as channel,
        an_adapter(host.address, host.tokens.adapter) as adapter,
    ):
        await adapter.hello()
        await adapter.submit("hello", key="1")
        delivery = await adapter.next("delivery")
        assert await states(channel) == [delivery_pb2.DELIVERY_STATE_SENDING]
        await adapter.tell(delivery.delivery_id, adapter_pb2.DELIVERY_OUTCOME_SENT)
        await adapter.tell(
            delivery.delivery_id,
            adapter_pb2.DELIVERY_OUTCOME_UNKNOWN,
            error={"code": "timeout", "message": "No answer."},
        )
        await adapter.leave()
        got = await ask(channel, delivery_pb2.GetDeliveryRequest(delivery_id=delivery.delivery_id))
        assert got.delivery.state == delivery_pb2.DELIVERY_STATE_UNKNOWN
        assert (got.delivery.attempt_count, got.delivery.error.code) == (1, "timeout")
        assert text_of(got.delivery) == "echo: hello"
        retried = await ask(channel, delivery_pb2.RetryDeliveryRequest(delivery_id=delivery.delivery_id))
        assert retried.delivery.state == delivery_pb2.DELIVERY_STATE_PENDING
        discarded = await ask(channel, delivery_pb2.DiscardDeliveryRequest(delivery_id=delivery.delivery_id))
        assert discarded.delivery.state == delivery_pb2.DELIVERY_STATE_DISCARDED
        assert discarded.delivery.HasField("end_time")
        with pytest.raises(WrongState):
            await ask(channel, delivery_pb2.RetryDeliveryRequest(delivery_id=delivery.delivery_id))


async def test_a_list_is_paged_newest_first_and_filtered(tmp_path: Path) -> None:
    async with (
        adapter_host(tmp_path) as host,
        open_channel(host.address, token=host.tokens.operator) as channel,
        an_adapter(host.address, host.tokens.adapter) as adapter,
    ):
        await adapter.hello()
        for number in range(5):
            await adapter.submit(str(number), key=str(number), chat="ada")
            await adapter.next("ack")
        request = delivery_pb2.ListDeliveriesRequest(page_size=2)
        texts = []
        while True:
            page = await ask(channel, request)
            texts += [text_of(one) for one in page.deliveries]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert texts == [f"echo: {number}" for number in (4, 3, 2, 1, 0)]
        await until(lambda: next(iter(host.connections)).held_count == 1)
        sending = await ask(channel, delivery_pb2.ListDeliveriesRequest(states=[delivery_pb2.DELIVERY_STATE_SENDING]))
        assert [text_of(one) for one in sending.deliveries] == ["echo: 0"]
        pending = await ask(
            channel, delivery_pb2.ListDeliveriesRequest(states=[delivery_pb2.DELIVERY_STATE_PENDING], page_size=2)
        )
        assert [text_of(one) for one in pending.deliveries] == ["echo: 4", "echo: 3"]
        none = await ask(channel, delivery_pb2.ListDeliveriesRequest(conversation_id="chat-eve"))
        assert not none.deliveries
        with pytest.raises(InvalidInput):
            await ask(
                channel, delivery_pb2.ListDeliveriesRequest(page_size=3, run_id="other", page_token=request.page_token)
            )


async def test_a_missing_delivery_is_not_found_and_adapters_may_not_look(tmp_path: Path) -> None:
    async with adapter_host(tmp_path) as host:
        async with open_channel(host.address, token=host.tokens.operator) as channel:
            with pytest.raises(NotFound):
                await ask(channel, delivery_pb2.GetDeliveryRequest(delivery_id="dlv_missing"))
        async with open_channel(host.address, token=host.tokens.adapter) as channel:
            with pytest.raises(NotPermitted):
                await ask(channel, delivery_pb2.GetDeliveryRequest(delivery_id="dlv_missing"))
