"""Questions in a chat: shown natively or as text, answered by the adapter, only where they were asked."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from portway.v1 import adapter_pb2, event_pb2, interaction_pb2, run_context_pb2, run_pb2
from tests.asking_people import ASKING, a_form, an_answer, ask, completes, questions
from tests.fakes.adapter_client import AdapterClient, an_adapter
from tests.fakes.runtime_server import FakeRun, FakeRuntime, answer_hello
from tests.server.callers import make_token
from tests.server.hosting import Hosted, text_part
from tests.waiting import until_told

FORM = interaction_pb2.INTERACTION_KIND_FORM
NATIVE = run_context_pb2.SurfaceCapabilities(interactions=[FORM], edit=True)


@pytest.fixture
async def runtime(runtime: FakeRuntime) -> FakeRuntime:
    async def asks(run: FakeRun) -> None:
        if run.context.input.HasField("interaction"):
            await answer_hello(run)
            return
        await ask(run, a_form())
        await run.send(completes(run))

    runtime.manifest, runtime.script = ASKING, asks
    return runtime


@asynccontextmanager
async def connected(host: Hosted) -> AsyncIterator[AdapterClient]:
    token = await make_token(host, "adapter")
    async with an_adapter(host.address, token.secret) as adapter:
        await adapter.hello()
        yield adapter


def an_event(kind: str, chat: str = "ada", **more: Any) -> event_pb2.Event:
    address = event_pb2.EventAddress(surface="web_chat", launcher_type="person", launcher_id=chat)
    actor = run_context_pb2.Actor(type="user", id=f"web:{chat}", name="Ada")
    return event_pb2.Event(type=kind, address=address, actor=actor, **more)


async def send(adapter: AdapterClient, key: str, event: event_pb2.Event) -> Any:
    """An event; answers its acknowledgement."""
    request = event_pb2.SubmitEventRequest(event=event, idempotency_key=key)
    await adapter.send(event=adapter_pb2.AdapterEvent(ref=1, submit=request))
    return await adapter.next("ack")


async def asked_in(adapter: AdapterClient, **more: Any) -> Any:
    """A message whose run asks; answers the delivery of the question."""
    ack = await send(adapter, "m1", an_event("message.received", parts=[text_part("hi")], **more))
    assert ack.accepted.run_id, ack
    return await adapter.next("delivery")


async def test_a_surface_that_can_shows_the_question_and_its_end(host: Hosted) -> None:
    async with connected(host) as adapter:
        delivery = await asked_in(adapter, capabilities=NATIVE)
        asked = delivery.payload.interaction
        assert asked.interaction_id == "q1" and asked.HasField("expire_time") and asked.actions[0].id == "submit"
        await adapter.tell(delivery.delivery_id, provider_message_id="p1")

        async def is_told() -> bool:
            return bool((await host.parts.stores.deliveries.delivery("default", delivery.delivery_id)).end_time)

        await until_told(is_told)
        answer = an_answer(delivery.run_id, city="Rome")
        ack = await send(adapter, "a1", an_event("interaction.submitted", interaction=answer))
        assert ack.accepted.run_id and not ack.accepted.duplicate
        again = await send(adapter, "a1", an_event("interaction.submitted", interaction=answer))
        assert again.accepted.run_id == ack.accepted.run_id and again.accepted.duplicate
        edit = await adapter.next("delivery")
        assert edit.payload.edit.provider_message_id == "p1"
        assert edit.payload.edit.parts[0].question.state == interaction_pb2.INTERACTION_STATE_ANSWERED
        await adapter.tell(edit.delivery_id)
        reply = await adapter.next("delivery")
        assert reply.run_id == ack.accepted.run_id
        await adapter.tell(reply.delivery_id)
        run = await host.ended(ack.accepted.run_id)
        assert run.state == run_pb2.RUN_STATE_COMPLETED and run.parent_run_id == delivery.run_id


async def test_a_surface_that_cannot_gets_the_fallback_text(host: Hosted) -> None:
    async with connected(host) as adapter:
        delivery = await asked_in(adapter)
        assert delivery.payload.message.parts[0].text.text == "Please say where to."
        await adapter.tell(delivery.delivery_id)


async def test_nobody_answers_from_another_chat(host: Hosted) -> None:
    async with connected(host) as adapter:
        delivery = await asked_in(adapter, capabilities=NATIVE)
        answer = an_answer(delivery.run_id, city="Rome")
        ack = await send(adapter, "a1", an_event("interaction.submitted", chat="eve", interaction=answer))
        assert ack.error.code == "NOT_FOUND"
        elsewhere = an_event("interaction.submitted", interaction=answer)
        elsewhere.address.surface = "telegram"
        assert (await send(adapter, "a2", elsewhere)).error.code == "NOT_FOUND"
        (record,) = await questions(host)
        assert record.state == interaction_pb2.INTERACTION_STATE_OPEN
        assert (await send(adapter, "a3", an_event("interaction.submitted", interaction=answer))).accepted.run_id
