"""Edited and recalled messages: transcript, search, and the run of the old message."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from portway.server.agents.types import EditPolicy, InboundGuards, QueuePolicy
from portway.server.transcript.types import SearchQuery
from portway.v1 import event_pb2, run_pb2, run_pull_pb2
from tests.fakes.runtime_server import FakeRun, FakeRuntime, a_manifest
from tests.server.hosting import WORKSPACE, Hosted, a_message, hosted, text_part
from tests.waiting import PATIENCE, until


def said(text: str, message: str = "m1", **more: Any) -> event_pb2.Event:
    event = a_message(text, source="tg", **more)
    event.subject.type, event.subject.id = "message", message
    return event


def edited(text: str, message: str = "m1", at: int = 0, **more: Any) -> event_pb2.Event:
    event = said(text, message, **more)
    event.type = "message.edited"
    if at:
        event.event_time.FromSeconds(at)
    return event


def recalled(message: str = "m1", **more: Any) -> event_pb2.Event:
    event = said("", message, **more)
    event.type = "message.recalled"
    event.ClearField("parts")
    return event


class Held:
    """Runs wait until they are let; what they answer is what they were asked. One that is told to stop says its
    answer all the same: a host must not take it."""

    def __init__(self) -> None:
        self.begun = asyncio.Queue[FakeRun]()
        self.open = asyncio.Event()
        self.obedient = True

    async def __call__(self, run: FakeRun) -> None:
        self.begun.put_nowait(run)
        waiting = {asyncio.create_task(self.open.wait()), asyncio.create_task(run.cancelled.wait())}
        _, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await run.answer(f"answer to {run.context.input.text}")

    async def next(self) -> FakeRun:
        return await asyncio.wait_for(self.begun.get(), PATIENCE)


@pytest.fixture
def held(runtime: FakeRuntime) -> Held:
    runtime.manifest.CopyFrom(a_manifest(capabilities=["steering"]))
    script = runtime.script = Held()
    return script


async def told(host: Hosted, conversation_id: str) -> list[str]:
    return [item.text for item in await host.transcript(conversation_id)]


async def found(host: Hosted, text: str) -> list[str]:
    query = SearchQuery(text=text, limit=10)
    return [item.text for item in await host.parts.stores.transcript.search(WORKSPACE, query)]


@pytest.mark.parametrize("executing", [True, False])
async def test_an_edit_takes_the_place_of_the_message_and_of_its_run(held: Held, host: Hosted, executing: bool) -> None:
    await host.set_agent(edit_policy=EditPolicy.SUPERSEDE)
    before = await host.submit("first of all")
    await held.next()
    place: dict[str, Any] = {} if executing else {"conversation_id": before.conversation_id}
    old = await host.submit(said("wether", **(place or {"chat": "chat-2"})))
    if executing:
        await held.next()
    new = await host.submit(edited("weather", **(place or {"chat": "chat-2"})), key="edit")
    assert new.run_id and new.run_id != old.run_id and new.message_id == old.message_id
    assert (await host.submit(edited("weather", **(place or {"chat": "chat-2"})), key="edit")).run_id == new.run_id
    held.open.set()
    assert (await host.ended(old.run_id)).state == run_pb2.RUN_STATE_CANCELLED
    assert (await host.ended(new.run_id)).state == run_pb2.RUN_STATE_COMPLETED
    texts = [text for text in await told(host, old.conversation_id) if "first of all" not in text]
    assert texts == ["weather", "answer to weather"]
    assert await found(host, "weather") and not await found(host, "wether")
    explained = await host.events.ExplainMessage(event_pb2.ExplainMessageRequest(id=old.event_id))
    assert any("message.edited" in step.summary and old.run_id in step.summary for step in explained.steps)


async def test_an_edit_goes_into_its_run_by_default(held: Held, host: Hosted, runtime: FakeRuntime) -> None:
    pulled: list[Any] = []

    async def pull(run: FakeRun) -> None:
        await asyncio.wait_for(run.steered.wait(), PATIENCE)
        pulled.extend((await run.ask("pull_steering", run_pull_pb2.PullSteeringRequest())).messages)
        await run.answer("done")

    runtime.script = pull
    old = await host.submit(said("wether"))
    await until(lambda: len(runtime.runs) == 1)
    new = await host.submit(edited("weather"))
    assert (new.outcome, new.run_id) == (event_pb2.EVENT_OUTCOME_STEER, old.run_id)
    assert (await host.ended(old.run_id)).state == run_pb2.RUN_STATE_COMPLETED
    assert [message.input.text for message in pulled] == ["weather"]
    assert await told(host, old.conversation_id) == ["weather", "done"]


async def test_an_edit_that_its_run_did_not_take_becomes_no_second_answer(held: Held, host: Hosted) -> None:
    old = await host.submit(said("wether"))
    await held.next()
    new = await host.submit(edited("weather"))
    assert new.outcome == event_pb2.EVENT_OUTCOME_STEER
    held.open.set()
    await host.ended(old.run_id)
    after = await host.events.GetEvent(event_pb2.GetEventRequest(event_id=new.event_id))
    assert after.outcome == event_pb2.EVENT_OUTCOME_RECORDED
    assert await told(host, old.conversation_id) == ["weather", "answer to wether"]


@pytest.mark.parametrize("policy", list(EditPolicy))
async def test_what_was_answered_stays_answered(host: Hosted, policy: EditPolicy) -> None:
    await host.set_agent(edit_policy=policy)
    old = await host.submit(said("wether"))
    await host.ended(old.run_id)
    new = await host.submit(edited("weather"))
    assert (new.outcome, new.run_id) == (event_pb2.EVENT_OUTCOME_RECORDED, "")
    assert await told(host, old.conversation_id) == ["weather", "hello, wether"]
    items = await host.transcript(old.conversation_id)
    assert items[0].edit_time and not items[1].edit_time


async def test_edits_count_in_the_order_of_the_platform(host: Hosted) -> None:
    old = await host.submit(said("one"))
    await host.ended(old.run_id)
    await host.submit(edited("three", at=300))
    late = await host.submit(edited("two", at=200))
    assert late.outcome == event_pb2.EVENT_OUTCOME_RECORDED
    assert (await told(host, old.conversation_id))[0] == "three"
    await host.submit(recalled())
    await host.submit(edited("four", at=400))
    item = (await host.transcript(old.conversation_id))[0]
    assert (item.text, bool(item.redact_time)) == ("", True)
    assert not await found(host, "three")


@pytest.mark.parametrize(
    "amendment",
    [
        edited("mine now", actor={"type": "user", "id": "somebody else"}),
        edited("of nothing", message="unknown"),
        event_pb2.Event(type="message.edited", source="tg", subject=said("").subject, address=said("").address),
    ],
)
async def test_what_changes_nothing_is_recorded_with_a_reason(host: Hosted, amendment: event_pb2.Event) -> None:
    old = await host.submit(said("mine"))
    await host.ended(old.run_id)
    new = await host.submit(amendment)
    assert (new.outcome, new.run_id) == (event_pb2.EVENT_OUTCOME_RECORDED, "")
    assert (await told(host, old.conversation_id))[0] == "mine"
    explained = await host.events.ExplainMessage(event_pb2.ExplainMessageRequest(id=new.event_id))
    assert len(explained.conclusion) > len("It was recorded: .")


async def test_one_adapter_does_not_edit_the_messages_of_another(host: Hosted) -> None:
    old = await host.submit(said("mine"))
    await host.ended(old.run_id)
    other = edited("yours")
    other.source = "other"
    await host.submit(other)
    assert (await told(host, old.conversation_id))[0] == "mine"


async def test_a_guard_looks_at_edits_too(host: Hosted) -> None:
    await host.set_agent(guards=InboundGuards(denied_inbound_patterns=("secret",)))
    old = await host.submit(said("harmless"))
    await host.ended(old.run_id)
    new = await host.submit(edited("secret"))
    assert new.outcome == event_pb2.EVENT_OUTCOME_REFUSED
    assert (await told(host, old.conversation_id))[0] == "harmless"


@pytest.mark.parametrize("executing", [True, False])
async def test_a_recalled_message_gets_no_answer(held: Held, host: Hosted, executing: bool) -> None:
    before = await host.submit("first of all", chat="chat-1")
    await held.next()
    chat = "chat-2" if executing else "chat-1"
    old = await host.submit(said("oh no", chat=chat))
    if executing:
        await held.next()
    await host.submit(recalled(chat=chat))
    held.open.set()
    assert (await host.ended(old.run_id)).state == run_pb2.RUN_STATE_CANCELLED
    await host.ended(before.run_id)
    items = [item for item in await host.transcript(old.conversation_id) if item.event_id == old.event_id]
    assert [(item.text, bool(item.redact_time)) for item in items] == [("", True)]


@pytest.mark.parametrize("pulled", [False, True])
async def test_a_recalled_message_that_was_steered_is_withdrawn_and_its_run_goes_on(
    held: Held, host: Hosted, runtime: FakeRuntime, pulled: bool
) -> None:
    assert not held.begun.qsize(), "the runner says that it takes messages"
    taken, recalled_now = asyncio.Event(), asyncio.Event()
    messages: list[Any] = []

    async def listens(run: FakeRun) -> None:
        await asyncio.wait_for(run.steered.wait(), PATIENCE)
        if pulled:
            messages.extend((await run.ask("pull_steering", run_pull_pb2.PullSteeringRequest())).messages)
        taken.set()
        await asyncio.wait_for(recalled_now.wait(), PATIENCE)
        messages.extend((await run.ask("pull_steering", run_pull_pb2.PullSteeringRequest())).messages)
        await run.answer("done")

    runtime.script = listens
    await host.set_agent(queue_policy=QueuePolicy.STEER)
    first = await host.submit(said("begin", "m1"))
    await until(lambda: host.parts.dispatcher.steerable(WORKSPACE, first.conversation_id) is not None)
    second = await host.submit(said("and this", "m2"))
    assert second.outcome == event_pb2.EVENT_OUTCOME_STEER
    await asyncio.wait_for(taken.wait(), PATIENCE)
    await host.submit(recalled("m2"))
    recalled_now.set()
    assert (await host.ended(first.run_id)).state == run_pb2.RUN_STATE_COMPLETED
    assert len(messages) == int(pulled)
    ledger = [e.steering.outcome for e in await host.watch(first.run_id) if e.WhichOneof("kind") == "steering"]
    assert ledger == ["queued", "injected" if pulled else "withdrawn"]
    assert await told(host, first.conversation_id) == ["begin", "", "done"]
    assert len(runtime.runs) == 1


async def test_a_kill_between_the_edit_and_the_end_of_the_old_run_changes_nothing(
    tmp_path: Path, runtime: FakeRuntime, held: Held
) -> None:
    """The next start finds the old run fenced off and ends it without a word; the new one answers."""
    async with hosted(tmp_path, runtime) as host:
        await host.set_agent(edit_policy=EditPolicy.SUPERSEDE)
        old = await host.submit(said("wether"))
        await held.next()
        # The process stops here, as far as the run is concerned: only what is on disk counts.
        host.parts.dispatcher.replace = lambda run, reason: None
        host.parts.dispatcher.add = lambda run: None
        new = await host.submit(edited("weather"))
    held.open.set()
    async with hosted(tmp_path, runtime) as host:
        assert (await host.ended(old.run_id)).state == run_pb2.RUN_STATE_CANCELLED
        assert (await host.ended(new.run_id)).state == run_pb2.RUN_STATE_COMPLETED
        assert await told(host, old.conversation_id) == ["weather", "answer to weather"]


async def test_other_events_are_no_messages(host: Hosted, runtime: FakeRuntime) -> None:
    """Listened to by an agent that says so; nothing of them stands in the transcript or in the input."""
    seen: list[Any] = []

    async def look(run: FakeRun) -> None:
        seen.append(run.context)
        await run.answer("welcome")

    runtime.script = look
    await host.set_agent(event_types=("message.received", "group.member_joined", "acme.door_opened"))
    joined = event_pb2.Event(type="group.member_joined", source="tg", parts=[text_part("not said by anybody")])
    joined.address.surface, joined.address.launcher_type, joined.address.launcher_id = "api", "group", "g1"
    joined.actor.type, joined.actor.id = "user", "inviter"
    joined.subject.type, joined.subject.id = "membership", "newcomer"
    run = await host.ended((await host.submit(joined)).run_id)
    assert [item.text for item in await host.transcript(run.conversation_id)] == ["welcome"]
    context = seen[0]
    assert (context.actor.id, context.subject.type, context.subject.id) == ("inviter", "membership", "newcomer")
    assert context.event.type == "group.member_joined" and context.input.text == "" and not context.input.contents
    custom = event_pb2.Event(type="acme.door_opened", source="acme")
    assert (await host.submit(custom)).outcome == event_pb2.EVENT_OUTCOME_RUN
    custom.type = "acme.door_closed"
    assert (await host.submit(custom)).outcome == event_pb2.EVENT_OUTCOME_RECORDED


async def test_simulating_an_edit_says_what_it_would_do_and_does_nothing(held: Held, host: Hosted) -> None:
    await host.set_agent(edit_policy=EditPolicy.SUPERSEDE)
    old = await host.submit(said("wether"))
    await held.next()

    async def simulated(event: event_pb2.Event) -> event_pb2.SimulateEventResponse:
        answer: event_pb2.SimulateEventResponse = await host.events.SimulateEvent(
            event_pb2.SimulateEventRequest(event=event)
        )
        return answer

    instead = await simulated(edited("weather"))
    assert instead.outcome == event_pb2.EVENT_OUTCOME_RUN
    assert [step.ref for step in instead.steps if step.stage == "queue"] == [old.run_id]
    unknown = await simulated(edited("weather", message="unknown"))
    assert (unknown.outcome, unknown.steps[-1].ok) == (event_pb2.EVENT_OUTCOME_RECORDED, False)
    assert (await simulated(recalled())).steps[-1].ref == old.run_id
    held.open.set()
    assert (await host.ended(old.run_id)).state == run_pb2.RUN_STATE_COMPLETED
    assert await told(host, old.conversation_id) == ["wether", "answer to wether"]
