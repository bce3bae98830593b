"""Taking events in: on disk once, routed, refused with a reason."""

import asyncio
from pathlib import Path

import pytest

from portway.rpc.errors import Conflict, InvalidInput, NotFound, Reason, WrongState
from portway.rpc.ids import new_id
from portway.rpc.status import errors_by_meaning
from portway.server.agents.types import InboundGuards
from portway.server.audit.store import NEWEST, StoredAudit
from portway.server.audit.types import AuditFilter
from portway.server.bindings.types import BindingFilters, BindingScope
from portway.v1 import content_pb2, event_pb2, run_pb2
from tests.fakes.runtime_server import FakeRuntime
from tests.server.hosting import WORKSPACE, Hosted, a_message, hosted
from tests.waiting import PATIENCE


async def test_the_same_key_and_body_is_the_first_event_again(host: Hosted) -> None:
    first = await host.submit("hi", key="k1")
    again = await host.submit("hi", key="k1")
    assert not first.duplicate and again.duplicate
    assert (again.event_id, again.run_id, again.conversation_id) == (
        first.event_id,
        first.run_id,
        first.conversation_id,
    )
    assert (again.message_id, again.outcome, again.sequence) == (first.message_id, first.outcome, first.sequence)
    await host.ended(first.run_id)
    assert (await host.submit("hi", key="k1")).duplicate
    assert len(await host.transcript(first.conversation_id)) == 2


async def test_the_same_key_for_another_body_is_refused(host: Hosted) -> None:
    await host.submit("hi", key="k1")
    with pytest.raises(Conflict) as caught:
        await host.submit("ho", key="k1")
    assert caught.value.reason == Reason.SAME_KEY_OTHER_BODY
    # Keys belong to their source, and what only the raw payload differs in is the same event.
    other = a_message("ho")
    other.source = "another"
    assert not (await host.submit(other, key="k1")).duplicate
    first = a_message("hi")
    first.raw_ref.artifact_id = ""
    first.raw_ref.name = "second try"
    assert (await host.submit(first, key="k1")).duplicate


async def test_many_submits_of_one_key_at_once_make_one_event(host: Hosted) -> None:
    answers = await asyncio.gather(*(host.submit("hi", key="k1") for _ in range(32)))
    assert len({answer.event_id for answer in answers}) == 1
    assert [answer.duplicate for answer in answers].count(False) == 1


async def test_an_event_is_on_disk_when_it_is_acknowledged(tmp_path: Path, runtime: FakeRuntime) -> None:
    async with hosted(tmp_path, runtime) as host:
        await host.set_agent()
        accepted = await host.submit("remember me")
    async with hosted(tmp_path, runtime) as host:
        found = await host.events.GetEvent(event_pb2.GetEventRequest(event_id=accepted.event_id))
        assert found.event.parts[0].text.text == "remember me" and found.run_ids == [accepted.run_id]
        assert found.event.sequence == accepted.sequence
        assert found.event.address.conversation_id == accepted.conversation_id


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (event_pb2.Event(type="message.received"), "event.parts"),
        (event_pb2.Event(type="Message"), "event.type"),
        (event_pb2.Event(), "event.type"),
        (
            event_pb2.Event(
                type="message.received",
                parts=[content_pb2.ContentPart(image=content_pb2.MediaPart(caption="lost"))],
            ),
            "event.parts[0]",
        ),
    ],
)
async def test_an_event_that_is_wrong_is_refused_with_its_field(
    host: Hosted, event: event_pb2.Event, field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await host.submit(event)
    assert field in {one.field for one in caught.value.fields}


async def test_an_unknown_agent_conversation_or_file_is_not_found(host: Hosted) -> None:
    with pytest.raises(NotFound, match="agent"):
        await host.submit(agent_id="nobody")
    with pytest.raises(NotFound, match="conversation"):
        await host.submit(conversation_id=new_id("cnv"))
    event = a_message()
    event.parts.add().file.artifact.artifact_id = "art_lost"
    with pytest.raises(NotFound, match="artifact"):
        await host.submit(event)
    listed = await host.events.ListEvents(event_pb2.ListEventsRequest())
    assert not listed.events


async def test_no_binding_is_a_clear_refusal(host: Hosted) -> None:
    await host.parts.stores.database.writer.run(lambda tx: tx.execute("DELETE FROM bindings"))
    host.parts.bindings.forget("*")
    with pytest.raises(WrongState) as caught:
        await host.submit()
    assert caught.value.reason == Reason.NO_BINDING and "portway bindings create" in caught.value.message


async def test_two_equal_bindings_are_named(host: Hosted) -> None:
    await host.add_agent("second")
    ids = [await host.bind(agent, scope=BindingScope.WORKSPACE) for agent in ("assistant", "second")]
    with pytest.raises(WrongState) as caught:
        await host.submit()
    assert caught.value.reason == Reason.BINDING_AMBIGUOUS
    assert all(binding_id in caught.value.message for binding_id in ids)


async def test_the_narrowest_binding_wins_also_one_for_a_conversation(host: Hosted, runtime: FakeRuntime) -> None:
    first = await host.submit("one", chat="ada")
    await host.ended(first.run_id)
    await host.add_agent("special")
    await host.bind("special", scope=BindingScope.CONVERSATION, scope_id=first.conversation_id)
    second = await host.submit("two", chat="ada")
    assert (await host.ended(second.run_id)).agent_id == "special"
    assert (await host.asked("three", chat="bob")).agent_id == "assistant"


async def test_what_was_accepted_stays_accepted_when_its_binding_is_gone(host: Hosted) -> None:
    first = await host.submit("hi", key="k1")
    await host.parts.stores.database.writer.run(lambda tx: tx.execute("DELETE FROM bindings"))
    host.parts.bindings.forget("*")
    again = await host.submit("hi", key="k1")
    assert again.duplicate and again.event_id == first.event_id


async def test_an_agent_that_is_off_refuses(host: Hosted) -> None:
    await host.set_agent(disabled=True)
    with pytest.raises(WrongState) as caught:
        await host.submit()
    assert caught.value.reason == Reason.AGENT_DISABLED


async def test_an_event_that_nobody_listens_to_is_recorded(host: Hosted) -> None:
    event = event_pb2.Event(type="group.member_joined", address=a_message().address)
    accepted = await host.submit(event)
    assert accepted.outcome == event_pb2.EVENT_OUTCOME_RECORDED and not accepted.run_id
    explained = await host.events.ExplainMessage(event_pb2.ExplainMessageRequest(id=accepted.event_id))
    assert explained.conclusion == "It was recorded; no agent listens to it."


async def test_a_non_message_event_is_never_made_to_look_like_something_said(
    host: Hosted, runtime: FakeRuntime
) -> None:
    await host.set_agent(event_types=("group.member_joined",))
    await host.bind("assistant", scope=BindingScope.WORKSPACE, event_types=("group.member_joined",))
    event = event_pb2.Event(type="group.member_joined", address=a_message().address)
    event.subject.type, event.subject.id = "membership", "m1"
    accepted = await host.submit(event)
    await host.ended(accepted.run_id)
    context = runtime.runs[0].context
    assert context.subject.id == "m1" and not context.input.text and context.trigger.type == "group.member_joined"
    assert [item.role.value for item in await host.transcript(accepted.conversation_id)] == ["assistant"]


async def test_a_chat_has_one_conversation_until_it_was_idle_too_long(host: Hosted) -> None:
    one = await host.submit("one", chat="ada")
    two = await host.submit("two", chat="ada")
    bob = await host.submit("one", chat="bob")
    thread = await host.submit("one", chat="ada", thread_id="t1")
    assert one.conversation_id == two.conversation_id
    assert len({one.conversation_id, bob.conversation_id, thread.conversation_id}) == 3
    await host.set_agent(conversation_idle_seconds=0.001)
    await host.ended(two.run_id)
    assert (await host.submit("three", chat="ada")).conversation_id != one.conversation_id


async def test_a_caller_may_choose_the_id_of_a_conversation(host: Hosted) -> None:
    one = await host.submit("one", conversation_id="web-1")
    two = await host.submit("two", conversation_id="web-1")
    assert one.conversation_id == two.conversation_id == "web-1"
    await host.ended(two.run_id)
    assert len(await host.transcript("web-1")) == 4


async def test_guards_refuse_and_the_refusal_is_recorded_and_audited(host: Hosted) -> None:
    guards = InboundGuards(denied_sender_ids=("person-of-mallory",), denied_inbound_patterns=("(?i)viagra",))
    await host.set_agent(guards=guards)
    mallory = await host.submit("hello", chat="mallory")
    spam = await host.submit("cheap VIAGRA", chat="bob")
    for refused in (mallory, spam):
        assert refused.outcome == event_pb2.EVENT_OUTCOME_REFUSED and not refused.run_id and not refused.message_id
    explained = await host.events.ExplainMessage(event_pb2.ExplainMessageRequest(id=mallory.event_id))
    assert "denied" in explained.conclusion
    audit = StoredAudit(host.parts.stores.database.reader)
    refusals = AuditFilter(action="event.accept", refused_only=True)
    async with asyncio.timeout(PATIENCE):
        while len(await audit.page(WORKSPACE, refusals, NEWEST, 10)) < 2:  # noqa: ASYNC110 - a job writes it
            await asyncio.sleep(0.01)
    assert (await host.asked("hello", chat="ada")).state == run_pb2.RUN_STATE_COMPLETED


async def test_more_messages_than_a_window_allows_are_refused(host: Hosted) -> None:
    await host.set_agent(guards=InboundGuards(messages_per_window=2, window_seconds=60.0))
    outcomes = [(await host.submit(f"{n}", chat="ada")).outcome for n in range(4)]
    assert outcomes == [event_pb2.EVENT_OUTCOME_RUN] * 2 + [event_pb2.EVENT_OUTCOME_REFUSED] * 2
    assert (await host.submit("x", chat="bob")).outcome == event_pb2.EVENT_OUTCOME_RUN


async def test_events_are_listed_newest_first_by_type_and_conversation(host: Hosted) -> None:
    for number in range(5):
        await host.submit(f"message {number}", chat="ada")
    await host.submit(event_pb2.Event(type="group.member_joined", address=a_message(chat="ada").address))
    texts: list[str] = []
    request = event_pb2.ListEventsRequest(types=["message.received"], page_size=2)
    while True:
        page = await host.events.ListEvents(request)
        texts += [event.summary for event in page.events]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert texts == [f"message {number}" for number in (4, 3, 2, 1, 0)]
    request.types.append("other.type")
    with pytest.raises(InvalidInput), errors_by_meaning():
        await host.events.ListEvents(request)


async def test_a_mention_filter_keeps_other_messages_from_the_agent(host: Hosted) -> None:
    await host.parts.stores.database.writer.run(lambda tx: tx.execute("DELETE FROM bindings"))
    await host.bind("assistant", scope=BindingScope.WORKSPACE, filters=BindingFilters(mention=True))
    host.parts.bindings.forget("*")
    for text, addressed in (("not for you", False), ("you!", True)):
        event = a_message(text, addressed=addressed)
        event.address.launcher_type = "group"
        if addressed:
            assert (await host.submit(event)).run_id
            continue
        with pytest.raises(WrongState):
            await host.submit(event)
