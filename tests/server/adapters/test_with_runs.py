"""An adapter and the runs that answer its events: live text, final messages, and coming back in the middle."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from portway.v1 import adapter_pb2, conversation_pb2, delivery_pb2, run_pb2
from tests.asking import ask
from tests.fakes.adapter_client import AdapterClient, an_adapter
from tests.fakes.engine import text_of
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.callers import make_token
from tests.server.hosting import Hosted, hosted
from tests.waiting import PATIENCE


@asynccontextmanager
async def a_web_chat(served: Hosted, token: str, **hello: Any) -> AsyncIterator[AdapterClient]:
    async with an_adapter(served.address, token) as adapter:
        await adapter.hello(live_updates=True, **hello)
        yield adapter


async def updates_until_end(adapter: AdapterClient, run_id: str) -> list[run_pb2.RunEvent]:
    found: list[run_pb2.RunEvent] = []
    async with asyncio.timeout(PATIENCE):
        while not found or found[-1].WhichOneof("kind") not in ("run_completed", "run_failed"):
            update = await adapter.next("update")
            assert not update.error.code, update.error.message
            if update.run_id == run_id:
                found.extend(update.events)
    return found


async def test_text_comes_while_it_is_written_and_the_final_message_as_a_delivery(
    served: Hosted, schema_runtime: FakeRuntime
) -> None:
    said = asyncio.Event()

    async def talk(run: FakeRun) -> None:
        await run.say("hel")
        await said.wait()
        await run.answer("hello")

    schema_runtime.script = talk
    async with a_web_chat(served, (await make_token(served, "adapter")).secret) as adapter:
        await adapter.submit("hi", key="1", conversation="web-1")
        ack = await adapter.next("ack")
        update = await adapter.next("update")
        while not any(event.message_delta.text for event in update.events):
            update = await adapter.next("update")
        assert (update.run_id, update.conversation_id) == (ack.accepted.run_id, "web-1")
        said.set()
        events = await updates_until_end(adapter, ack.accepted.run_id)
        delivery = await adapter.next("delivery")
        assert text_of(delivery) == "hello"
        assert delivery.state == delivery_pb2.DELIVERY_STATE_SENDING
        (completed,) = [one.message_completed for one in events if one.HasField("message_completed")]
        assert completed.message.message_id == delivery.payload.message.item_id
        page = await ask(served.channel, conversation_pb2.ListMessagesRequest(conversation_id="web-1"))
        assert page.items[-1].item_id == delivery.payload.message.item_id
        await adapter.tell(delivery.delivery_id)
        await adapter.leave()


async def test_a_run_that_fails_leaves_one_notice(served: Hosted, schema_runtime: FakeRuntime) -> None:
    async def fail(run: FakeRun) -> None:
        await run.send(run.result(run_failed={"error": {"code": "runner.error", "message": "It broke."}}))

    schema_runtime.script = fail
    async with a_web_chat(served, (await make_token(served, "adapter")).secret) as adapter:
        await adapter.submit("hi", key="1", conversation="web-1")
        delivery = await adapter.next("delivery")
        assert delivery.payload.message.kind == "notice"
        assert text_of(delivery)
        await adapter.tell(delivery.delivery_id)
        listed = await ask(served.channel, delivery_pb2.ListDeliveriesRequest())
        assert len(listed.deliveries) == 1


async def test_who_comes_back_in_the_middle_watches_on_without_gap_or_repeat(
    served: Hosted, schema_runtime: FakeRuntime
) -> None:
    go_on = asyncio.Event()

    async def talk(run: FakeRun) -> None:
        await run.send(run.message("first", key="one"))
        await go_on.wait()
        await run.answer("second")

    schema_runtime.script = talk
    token = (await make_token(served, "adapter")).secret
    async with a_web_chat(served, token) as adapter:
        await adapter.submit("hi", key="1", conversation="web-1")
        run_id = (await adapter.next("ack")).accepted.run_id
        first = await adapter.next("delivery")
        await adapter.tell(first.delivery_id)
        seen: list[run_pb2.RunEvent] = []
        while not any(event.HasField("message_completed") for event in seen):
            seen.extend((await adapter.next("update")).events)
        adapter.cut()
    last = max(event.sequence for event in seen)
    async with a_web_chat(served, token) as adapter:
        await adapter.send(watch=adapter_pb2.AdapterWatch(run_id=run_id, after_sequence=last))
        go_on.set()
        rest = await updates_until_end(adapter, run_id)
        committed = [event.sequence for event in rest if event.sequence]
        assert committed == list(range(last + 1, last + 1 + len(committed)))
        second = await adapter.next("delivery")
        assert (text_of(second), second.sequence) == ("second", first.sequence + 1)


async def test_a_message_sent_again_after_a_break_is_the_same_and_is_answered_once(
    served: Hosted, schema_runtime: FakeRuntime
) -> None:
    token = (await make_token(served, "adapter")).secret
    async with a_web_chat(served, token) as adapter:
        await adapter.submit("hi", key="1", conversation="web-1")
        first = await adapter.next("ack")
        delivery = await adapter.next("delivery")
        adapter.cut()
    result = adapter_pb2.DeliveryResult(
        delivery_id=delivery.delivery_id, outcome=adapter_pb2.DELIVERY_OUTCOME_ACKNOWLEDGED
    )
    async with a_web_chat(served, token, recent_results=[result]) as adapter:
        await adapter.submit("hi", key="1", conversation="web-1")
        again = await adapter.next("ack")
        assert again.accepted.duplicate
        assert again.accepted.run_id == first.accepted.run_id
        await adapter.submit("bye", key="2", conversation="web-1")
        assert text_of(await adapter.next("delivery")) == "hello, bye"
    assert len(schema_runtime.runs) == 2


async def test_what_was_answered_while_nobody_was_connected_waits_over_a_restart(
    tmp_path: Path, schema_runtime: FakeRuntime
) -> None:
    async with hosted(tmp_path, schema_runtime) as served:
        await served.set_agent()
        token = (await make_token(served, "adapter")).secret
        for number in range(3):
            await served.asked(str(number), surface="web_chat", chat="ada")
    async with hosted(tmp_path, schema_runtime) as served, a_web_chat(served, token) as adapter:
        texts = []
        for _ in range(3):
            delivery = await adapter.next("delivery")
            texts.append(text_of(delivery))
            await adapter.tell(delivery.delivery_id)
        assert texts == [f"hello, {number}" for number in range(3)]
