"""ConversationService over the wire."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from portway.rpc.errors import Conflict, InvalidInput, NotFound, Reason, WrongState
from portway.v1 import content_pb2, conversation_pb2, run_pb2, workspace_pb2
from tests.asking import ask, stream
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.callers import calling_as
from tests.server.hosting import Hosted, hosted
from tests.waiting import until


async def send(served: Hosted, text: str = "hi", **more: Any) -> list[conversation_pb2.SendMessageResponse]:
    request = conversation_pb2.SendMessageRequest(text=text, **more)
    return [answer async for answer in stream(served.channel, request)]


def kinds(answers: list[conversation_pb2.SendMessageResponse]) -> list[str]:
    found: list[str] = []
    for answer in answers:
        kind = str(answer.WhichOneof("kind"))
        if not found or found[-1] != kind:
            found.append(kind)
    return found


def run_events(answers: list[conversation_pb2.SendMessageResponse]) -> list[run_pb2.RunEvent]:
    return [event for answer in answers for event in answer.run.events]


async def messages(served: Hosted, conversation_id: str, **more: Any) -> conversation_pb2.ListMessagesResponse:
    request = conversation_pb2.ListMessagesRequest(conversation_id=conversation_id, **more)
    page: conversation_pb2.ListMessagesResponse = await ask(served.channel, request)
    return page


async def test_a_message_is_accepted_its_run_streamed_and_its_reply_told(served: Hosted) -> None:
    answers = await send(served, "hi", conversation_id="team")
    assert kinds(answers) == ["accepted", "run", "finished"]
    accepted, finished = answers[0].accepted, answers[-1].finished
    assert accepted.conversation_id == "team"
    assert accepted.message_id.startswith("msg_")
    assert finished.run.state == run_pb2.RUN_STATE_COMPLETED
    assert (finished.reply.content, finished.reply.run_id) == ("hello, hi", accepted.run_id)
    committed = [event for event in run_events(answers) if event.sequence]
    assert [event.sequence for event in committed] == list(range(1, finished.run.last_sequence + 1))
    assert committed[-1].WhichOneof("kind") == "run_completed"


async def test_who_sends_is_known_from_the_token(served: Hosted, schema_runtime: FakeRuntime) -> None:
    await send(served)
    assert schema_runtime.runs[-1].context.actor.id == "admin"
    async with calling_as(served, "member") as member:
        request = conversation_pb2.SendMessageRequest(text="hi")
        assert [answer async for answer in stream(member, request)][-1].finished.reply.content == "hello, hi"
    assert schema_runtime.runs[-1].context.actor.id.startswith("tok_")


async def test_without_a_conversation_a_message_begins_one(served: Hosted) -> None:
    one, other = (await send(served))[0].accepted, (await send(served))[0].accepted
    assert one.conversation_id.startswith("cnv_")
    assert one.conversation_id != other.conversation_id


async def test_the_same_key_again_is_the_same_message_and_hears_the_same_answer(served: Hosted) -> None:
    first = await send(served, "hi", conversation_id="team", idempotency_key="k1")
    again = await send(served, "hi", conversation_id="team", idempotency_key="k1")
    assert again[0].accepted.duplicate
    assert again[0].accepted.event_id == first[0].accepted.event_id
    assert again[-1].finished.reply == first[-1].finished.reply
    with pytest.raises(Conflict):
        await send(served, "another", conversation_id="team", idempotency_key="k1")


async def test_nothing_said_is_refused(served: Hosted) -> None:
    with pytest.raises(InvalidInput):
        await send(served, "")


async def test_a_run_that_fails_ends_the_stream_with_what_people_are_told(
    served: Hosted, schema_runtime: FakeRuntime
) -> None:
    async def fail(run: FakeRun) -> None:
        await run.send(run.result(run_failed={"error": {"code": "runner.error", "message": "It broke."}}))

    schema_runtime.script = fail
    finished = (await send(served))[-1].finished
    assert (finished.run.state, finished.run.error.code) == (run_pb2.RUN_STATE_FAILED, "runner.error")
    assert finished.reply.kind == "notice"
    assert finished.reply.content


async def test_who_stops_listening_stops_nothing_else(served: Hosted, schema_runtime: FakeRuntime) -> None:
    heard = asyncio.Event()

    async def slowly(run: FakeRun) -> None:
        await run.say("half of it")
        await heard.wait()
        await run.answer("all of it")

    schema_runtime.script = slowly
    request = conversation_pb2.SendMessageRequest(text="hi", conversation_id="team")
    listening = stream(served.channel, request)
    accepted = (await anext(listening)).accepted
    await anext(listening)
    await listening.aclose()  # type: ignore[attr-defined]  # it is a generator
    heard.set()
    assert (await served.ended(accepted.run_id)).state == run_pb2.RUN_STATE_COMPLETED
    page = await messages(served, "team")
    assert [item.content for item in page.items] == ["hi", "all of it"]


async def test_a_slow_listener_holds_up_neither_the_run_nor_the_others(
    served: Hosted, schema_runtime: FakeRuntime
) -> None:
    async def chatter(run: FakeRun) -> None:
        for _ in range(2_000):
            await run.say("word " * 200)
        await run.answer("done")

    schema_runtime.script = chatter
    request = conversation_pb2.SendMessageRequest(text="hi", conversation_id="slow")
    listening = stream(served.channel, request)
    run_id = (await anext(listening)).accepted.run_id
    # Nothing more is read here until the run has ended.
    assert (await served.ended(run_id)).state == run_pb2.RUN_STATE_COMPLETED
    rest = [answer async for answer in listening]
    assert rest[-1].finished.reply.content == "done"


@pytest.fixture
async def talked(served: Hosted) -> AsyncIterator[Hosted]:
    """Five questions and answers in one conversation."""
    for number in range(5):
        await send(served, f"question {number}", conversation_id="team")
    yield served


async def test_a_transcript_is_paged_back_from_its_end_and_forward_from_any_place(talked: Hosted) -> None:
    last = await messages(talked, "team", page_size=4)
    assert [item.content for item in last.items] == [
        "question 3",
        "hello, question 3",
        "question 4",
        "hello, question 4",
    ]
    older = await messages(talked, "team", before=last.before_cursor, page_size=4)
    assert [item.content for item in older.items][-1] == "hello, question 2"
    first = await messages(talked, "team", before=older.before_cursor, page_size=4)
    assert [item.content for item in first.items] == ["question 0", "hello, question 0"]
    assert not first.before_cursor
    newer = await messages(talked, "team", after=first.after_cursor, page_size=2)
    assert [item.content for item in newer.items] == ["question 1", "hello, question 1"]
    end = await messages(talked, "team", after=last.after_cursor)
    assert not end.items
    assert end.after_cursor == last.after_cursor
    await send(talked, "one more", conversation_id="team")
    more = await messages(talked, "team", after=end.after_cursor)
    assert [item.content for item in more.items] == ["one more", "hello, one more"]


async def test_a_cursor_of_another_conversation_is_refused(talked: Hosted) -> None:
    await send(talked, "hi", conversation_id="other")
    cursor = (await messages(talked, "team")).after_cursor
    with pytest.raises(InvalidInput) as refusal:
        await messages(talked, "other", after=cursor)
    assert refusal.value.reason == Reason.INVALID_CURSOR
    with pytest.raises(NotFound):
        await messages(talked, "nowhere")


async def test_messages_are_searched_in_one_conversation_or_in_all(talked: Hosted) -> None:
    await send(talked, "question 3 elsewhere", conversation_id="other")

    async def found(**more: Any) -> list[str]:
        request = conversation_pb2.SearchMessagesRequest(query="question 3", **more)
        return [item.content for item in (await ask(talked.channel, request)).items]

    user = content_pb2.MESSAGE_ROLE_USER
    assert sorted(await found(roles=[user])) == ["question 3", "question 3 elsewhere"]
    assert await found(conversation_id="team", roles=[user]) == ["question 3"]
    assert len(await found(limit=1)) == 1
    with pytest.raises(NotFound):
        await found(conversation_id="nowhere")


async def test_conversations_are_listed_last_used_first_in_pages(talked: Hosted) -> None:
    for name in ("b", "c", "team"):
        await send(talked, f"first words of {name}", conversation_id=name)
    request = conversation_pb2.ListConversationsRequest(page_size=2)
    page = await ask(talked.channel, request)
    assert [one.conversation_id for one in page.conversations] == ["team", "c"]
    request.page_token = page.next_page_token
    rest = await ask(talked.channel, request)
    assert [one.conversation_id for one in rest.conversations] == ["b"]
    assert not rest.next_page_token
    (team,) = [one for one in page.conversations if one.conversation_id == "team"]
    assert (team.title, team.message_count, team.current) == ("question 0", 12, True)
    none = await ask(talked.channel, conversation_pb2.ListConversationsRequest(surface="telegram"))
    assert not none.conversations


async def test_after_a_reset_the_chat_begins_anew(served: Hosted) -> None:
    first = (await served.submit("one")).conversation_id
    await served.ended((await served.submit("two")).run_id)
    answer = await ask(served.channel, conversation_pb2.ResetConversationRequest(conversation_id=first))
    assert not answer.conversation.current
    again = await ask(served.channel, conversation_pb2.ResetConversationRequest(conversation_id=first))
    assert not again.conversation.current
    assert (await served.submit("three")).conversation_id != first
    assert (await messages(served, first)).items[0].content == "one"
    with pytest.raises(NotFound):
        await ask(served.channel, conversation_pb2.ResetConversationRequest(conversation_id="nowhere"))


async def test_a_fork_has_the_messages_up_to_an_item_and_goes_its_own_way(talked: Hosted) -> None:
    item = (await messages(talked, "team")).items[3]
    request = conversation_pb2.ForkConversationRequest(conversation_id="team", item_id=item.item_id, request_id="r1")
    fork = (await ask(talked.channel, request)).conversation
    assert (fork.forked_from, fork.message_count) == ("team", 4)
    assert (await ask(talked.channel, request)).conversation.conversation_id == fork.conversation_id
    await send(talked, "another way", conversation_id=fork.conversation_id)
    forked = [one.content for one in (await messages(talked, fork.conversation_id)).items]
    assert forked == ["question 0", "hello, question 0", "question 1", "hello, question 1"] + [
        "another way",
        "hello, another way",
    ]
    assert len((await messages(talked, "team")).items) == 10
    with pytest.raises(NotFound):
        await ask(
            talked.channel,
            conversation_pb2.ForkConversationRequest(
                conversation_id=fork.conversation_id, item_id=item.item_id, request_id="r2"
            ),
        )


async def test_a_conversation_tells_how_many_of_its_runs_are_open(served: Hosted, schema_runtime: FakeRuntime) -> None:
    go_on = asyncio.Event()

    async def wait(run: FakeRun) -> None:
        await go_on.wait()
        await run.answer("done")

    schema_runtime.script = wait
    accepted = await served.submit("hi")
    request = conversation_pb2.GetConversationRequest(conversation_id=accepted.conversation_id)
    await until(lambda: bool(schema_runtime.runs))
    assert (await ask(served.channel, request)).conversation.open_run_count == 1
    go_on.set()
    await served.ended(accepted.run_id)
    assert (await ask(served.channel, request)).conversation.open_run_count == 0


async def test_another_workspace_sees_none_of_it(talked: Hosted) -> None:
    workspace = workspace_pb2.Workspace(workspace_id="elsewhere", name="Elsewhere")
    await ask(talked.channel, workspace_pb2.CreateWorkspaceRequest(workspace=workspace))
    async with calling_as(talked, "operator", "elsewhere") as there:
        for request in (
            conversation_pb2.GetConversationRequest(conversation_id="team"),
            conversation_pb2.ListMessagesRequest(conversation_id="team"),
            conversation_pb2.ResetConversationRequest(conversation_id="team"),
            conversation_pb2.ForkConversationRequest(conversation_id="team", request_id="r"),
        ):
            with pytest.raises(NotFound):
                await ask(there, request)
        assert not (await ask(there, conversation_pb2.ListConversationsRequest())).conversations
        assert not (await ask(there, conversation_pb2.SearchMessagesRequest(query="question"))).items


async def test_without_an_agent_for_it_a_message_is_refused_and_says_what_to_do(
    tmp_path: Path, schema_runtime: FakeRuntime
) -> None:
    async with hosted(tmp_path, schema_runtime) as host:
        with pytest.raises(NotFound, match="nobody"):
            await send(host, "hi", agent_id="nobody")
        await host.parts.stores.database.writer.run(lambda tx: tx.execute("DELETE FROM bindings"))
        host.parts.bindings.forget("*")
        with pytest.raises(WrongState) as refusal:
            await send(host, "hi")
        assert refusal.value.reason == Reason.NO_BINDING
