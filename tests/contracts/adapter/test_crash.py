"""An adapter that dies between the platform's call and its result: the next one knows what the last one did."""

import asyncio
from pathlib import Path

import pytest

from portway.v1 import adapter_pb2, delivery_pb2
from tests.contracts.adapter.under_test import Chat, kit_adapter
from tests.fakes.chat_host import ChatHost, chat_host
from tests.waiting import until


async def die_after_the_call(host: ChatHost, folder: Path, chat: Chat) -> None:
    """The message stands on the platform; neither its answer nor a result ever reached anybody."""
    chat.hold_answer = asyncio.Event()
    async with kit_adapter(host, folder, chat=chat) as adapter:
        await adapter.connected()
        await adapter.say("hello", "key-00001")
        await until(lambda: chat.calls == 1)
    chat.hold_answer = None
    host.cut()


def outcomes(host: ChatHost) -> list[adapter_pb2.DeliveryOutcome.ValueType]:
    return [result.outcome for results in host.store.outcomes.values() for result in results]


def state(host: ChatHost) -> delivery_pb2.DeliveryState.ValueType:
    (delivery,) = host.store.deliveries.values()
    return delivery.state


@pytest.mark.parametrize("recognises", [True, False], ids=["by the platform", "by its history"])
async def test_a_message_that_arrived_is_recognised(tmp_path: Path, recognises: bool) -> None:
    chat = Chat(recognises=recognises)
    async with chat_host() as host:
        await die_after_the_call(host, tmp_path, chat)
        assert outcomes(host) == []
        async with kit_adapter(host, tmp_path, chat=chat):
            await until(lambda: state(host) == delivery_pb2.DELIVERY_STATE_ACKNOWLEDGED)
    assert [text for _, text in chat.messages] == ["You said: hello"]
    assert chat.calls == (2 if recognises else 1)


async def test_where_nobody_can_tell_nothing_is_sent_blindly(tmp_path: Path) -> None:
    chat = Chat(recognises=False)
    async with chat_host() as host:
        await die_after_the_call(host, tmp_path, chat)
        # The platform's history does not reach back that far.
        arrived, chat.messages = chat.messages, []
        async with kit_adapter(host, tmp_path, chat=chat) as adapter:
            await until(lambda: state(host) == delivery_pb2.DELIVERY_STATE_UNKNOWN)
            assert (len(arrived), adapter.shown(), chat.calls) == (1, [], 1)
            # A person has looked, and wants it sent again, under the same id.
            (delivery,) = host.store.deliveries.values()
            delivery.state = delivery_pb2.DELIVERY_STATE_PENDING
            assert host.connections.current is not None
            host.connections.current.given.clear()
            host.connections.deliver_pending()
            await until(lambda: state(host) == delivery_pb2.DELIVERY_STATE_ACKNOWLEDGED)
            assert adapter.shown() == ["You said: hello"]


async def test_a_result_that_was_lost_with_the_adapter_is_known_from_its_notes(tmp_path: Path) -> None:
    chat = Chat(recognises=False)
    async with chat_host() as host:
        async with kit_adapter(host, tmp_path, chat=chat) as adapter:
            await adapter.connected()
            await adapter.say("hello", "key-00001")
            await until(lambda: host.store.outcomes != {})
        # As if the host had been killed before it recorded the result.
        (delivery,) = host.store.deliveries.values()
        delivery.state = delivery_pb2.DELIVERY_STATE_PENDING
        host.cut()
        async with kit_adapter(host, tmp_path, chat=chat):
            await until(lambda: state(host) == delivery_pb2.DELIVERY_STATE_ACKNOWLEDGED)
    assert chat.calls == 1
