"""From a message to its answer: what is on disk, what watchers see, and that both agree."""

import asyncio

import pytest

from portway.rpc.errors import NotFound, OutOfRange
from portway.v1 import run_pb2, run_result_pb2
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.hosting import AGENT, Hosted, text_of
from tests.waiting import until


async def test_a_message_is_answered_and_everything_is_on_disk(host: Hosted) -> None:
    accepted = await host.submit("Ada here")
    events = await host.watch(accepted.run_id)

    run = await host.run(accepted.run_id)
    assert run.state == run_pb2.RUN_STATE_COMPLETED
    assert run.agent_id == AGENT and run.event_id == accepted.event_id and run.attempt == 1
    assert [event.WhichOneof("kind") for event in events] == ["state_changed", "message_completed", "run_completed"]
    items = await host.transcript(accepted.conversation_id)
    assert [(item.role.value, item.text) for item in items] == [("user", "Ada here"), ("assistant", "hello, Ada here")]
    assert items[0].item_id == accepted.message_id
    assert items[1].item_id == events[1].message_completed.message.message_id


async def test_the_runner_is_given_the_event_its_place_and_what_it_may_do(host: Hosted, runtime: FakeRuntime) -> None:
    first = await host.submit("one", chat="ada")
    await host.ended(first.run_id)
    accepted = await host.submit("two", chat="ada")
    await host.ended(accepted.run_id)

    context = runtime.runs[1].context
    assert context.run_id == accepted.run_id and context.attempt == 1 and context.agent_id == AGENT
    assert context.event.event_id == accepted.event_id and context.input.text == "two"
    assert context.conversation.conversation_id == first.conversation_id == accepted.conversation_id
    assert context.actor.id == "person-of-ada"
    # Message, answer, message: this one is the third.
    assert context.context.transcript_sequence == 3 and context.context.has_history_before
    assert "page_history" in context.context.available_calls
    assert [model.model_id for model in context.resources.models] == ["demo"]
    assert context.runtime.deadline.ToDatetime() > context.trigger.time.ToDatetime()
    assert runtime.runs[1].start.run_token.startswith("pw_run_")


async def test_the_ledger_has_no_gaps_and_replays_the_same_bytes_after_any_sequence(
    host: Hosted, runtime: FakeRuntime
) -> None:
    async def talk(run: FakeRun) -> None:
        for number in range(5):
            await run.say(f"piece {number} ")
            await run.send(run.result(progress={"text": f"step {number}"}))
        await run.answer("whole")

    runtime.script = talk
    accepted = await host.submit()
    live = [event for event in await host.watch(accepted.run_id) if event.sequence]
    again = await host.watch(accepted.run_id)

    assert [event.sequence for event in again] == list(range(1, len(again) + 1))
    assert [event.SerializeToString() for event in live] == [event.SerializeToString() for event in again]
    for after in range(len(again) + 1):
        rest = await host.watch(accepted.run_id, after)
        assert [event.SerializeToString() for event in rest] == [e.SerializeToString() for e in again[after:]]
    by_cursor = await host.watch(accepted.run_id, after_cursor=again[2].cursor)
    assert [event.sequence for event in by_cursor] == [event.sequence for event in again[3:]]


async def test_a_sequence_that_the_run_does_not_have_is_out_of_range_and_an_unknown_run_is_not_found(
    host: Hosted,
) -> None:
    run = await host.asked()
    with pytest.raises(OutOfRange):
        await host.watch(run.run_id, run.last_sequence + 1)
    with pytest.raises(NotFound):
        await host.watch("run_00000000000000000000000000000000")


async def test_text_is_shown_while_it_is_written_and_joins_without_loss_or_repeat(
    host: Hosted, runtime: FakeRuntime
) -> None:
    go_on = asyncio.Event()
    words = [f"wörd-{number} 🙂 " for number in range(40)]

    async def talk(run: FakeRun) -> None:
        for word in words[:20]:
            await run.say(word)
        await go_on.wait()
        await run.send(*(run.result(message_delta={"message_key": "answer", "text": word}) for word in words[20:]))
        await run.answer("done")

    runtime.script = talk
    accepted = await host.submit()
    first: list[run_pb2.RunEvent] = []
    second: list[run_pb2.RunEvent] = []

    async def watch(found: list[run_pb2.RunEvent]) -> None:
        async for response in host.runs.WatchRun(run_pb2.WatchRunRequest(run_id=accepted.run_id)):
            found.extend(response.events)

    async with asyncio.TaskGroup() as group:
        group.create_task(watch(first))
        await until(lambda: text_of(first) == "".join(words[:20]))
        # Joins in the middle: what was written before comes from the ledger and from what is not in it yet.
        group.create_task(watch(second))
        await until(lambda: text_of(second) == "".join(words[:20]))
        go_on.set()
    assert text_of(first) == text_of(second) == "".join(words)
    assert any(event.sequence == 0 for event in first)
    assert text_of(await host.watch(accepted.run_id, committed_only=True)) == "".join(words)
    covered = [e for e in await host.watch(accepted.run_id) if e.first_runner_sequence]
    numbers = [n for e in covered for n in range(e.first_runner_sequence, e.last_runner_sequence + 1)]
    assert numbers == list(range(1, 43))


async def test_a_watcher_that_asks_for_committed_events_gets_nothing_else(host: Hosted, runtime: FakeRuntime) -> None:
    async def talk(run: FakeRun) -> None:
        await run.say("hello")
        await run.answer("hello")

    runtime.script = talk
    accepted = await host.submit()
    events = await host.watch(accepted.run_id, committed_only=True)
    assert all(event.sequence for event in events)


async def test_reasoning_is_kept_apart_from_text(host: Hosted, runtime: FakeRuntime) -> None:
    async def talk(run: FakeRun) -> None:
        await run.send(
            run.result(message_delta={"message_key": "a", "reasoning": "hm "}),
            run.result(message_delta={"message_key": "a", "reasoning": "well"}),
            run.result(message_delta={"message_key": "a", "text": "yes"}),
        )
        await run.answer("yes")

    runtime.script = talk
    run = await host.asked()
    deltas = [event for event in await host.watch(run.run_id) if event.WhichOneof("kind") == "message_delta"]
    assert [(e.message_delta.reasoning, e.message_delta.text, e.text_offset) for e in deltas] == [
        ("hm well", "", 0),
        ("", "yes", 0),
    ]


async def test_a_last_message_in_the_terminal_result_counts_once(host: Hosted, runtime: FakeRuntime) -> None:
    async def talk(run: FakeRun) -> None:
        said = run.message("said before", key="k")
        terminal = run.result(run_completed={"finish_reason": "FINISH_REASON_STOP"})
        terminal.result.run_completed.message.CopyFrom(said.result.message_completed)
        await run.send(said, terminal)

    runtime.script = talk
    accepted = await host.submit()
    await host.ended(accepted.run_id)
    assert [item.text for item in await host.transcript(accepted.conversation_id)] == ["hi", "said before"]

    async def only_at_the_end(run: FakeRun) -> None:
        terminal = run.result(run_completed={"finish_reason": "FINISH_REASON_LENGTH"})
        terminal.result.run_completed.message.CopyFrom(run.message("at the end").result.message_completed)
        await run.send(terminal)

    runtime.script = only_at_the_end
    accepted = await host.submit()
    run = await host.ended(accepted.run_id)
    assert run.finish_reason == run_result_pb2.FINISH_REASON_LENGTH
    assert [item.text for item in await host.transcript(accepted.conversation_id)][-1] == "at the end"


async def test_usage_is_summed_and_what_nobody_told_stays_unknown(host: Hosted, runtime: FakeRuntime) -> None:
    async def talk(run: FakeRun) -> None:
        for tokens in (3, 4):
            frame = run.result(progress={"text": "thinking"})
            frame.result.usage.input_tokens = tokens
            await run.send(frame)
        await run.answer("done")

    runtime.script = talk
    run = await host.asked()
    assert run.usage.input_tokens == 7
    assert not run.usage.HasField("output_tokens")


async def test_a_message_costs_three_commits_and_under_thirty_statements(host: Hosted) -> None:
    await host.asked("warm up")
    writer, reader = host.parts.stores.database.writer, host.parts.stores.database.reader
    commits, statements, reads = writer.counters.commits, writer.counters.statements, reader.statements
    await host.submit("count me")
    accepted = await host.submit("count me too")
    await host.ended(accepted.run_id)
    # Two messages, and the reads of the test itself.
    assert writer.counters.commits - commits <= 2 * 4
    assert writer.counters.statements - statements + reader.statements - reads < 2 * 30


async def test_no_number_that_a_runner_reports_keeps_its_run_from_ending(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        for tokens in (2**63 - 1, 2**63 - 1, -(2**63)):
            frame = run.result(message_delta={"message_key": "k", "text": "x"})
            frame.result.usage.input_tokens = frame.result.usage.output_tokens = tokens
            await run.send(frame)
        await run.answer("done")

    runtime.script = script
    run = await host.asked()
    assert run.state == run_pb2.RUN_STATE_COMPLETED
    assert 0 <= run.usage.input_tokens < 2**53
