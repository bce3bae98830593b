"""Runs: one live attempt, fenced writes, one final state, a ledger without gaps that replays byte for byte."""

import asyncio
from functools import partial

import pytest

from portway.rpc.errors import Conflict, LimitExceeded, NotFound, Reason, Stale, WrongState
from portway.server.runs.attempts import (
    begin_attempt,
    check_fence,
    freeze_snapshot,
    request_cancel,
    requeue_run,
    set_waiting,
    settle_run,
)
from portway.server.runs.ledger import add_steer, append_ledger, drop_steers, mark_injected
from portway.server.runs.store import FIRST_PAGE, StoredRuns
from portway.server.runs.types import (
    AttemptState,
    Failure,
    Fence,
    LedgerEntry,
    RunCursor,
    RunFilter,
    RunState,
    Settlement,
    SteerState,
    Usage,
)
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.transaction import Transaction
from tests.contracts.store.given import WORKSPACE, a_queued_run, an_attempt, an_executing_run

COMPLETED = Settlement(state=RunState.COMPLETED, finish_reason="stop", usage=Usage(input_tokens=3, output_tokens=5))


def entries(*payloads: bytes) -> list[LedgerEntry]:
    return [LedgerEntry("progress", payload, number, number) for number, payload in enumerate(payloads, 1)]


async def test_a_run_goes_from_queued_to_completed(database: Database) -> None:
    runs = StoredRuns(database.reader)
    queued = await a_queued_run(database)
    assert (await runs.run(WORKSPACE, queued.run_id)).state is RunState.QUEUED
    fence = await database.writer.run(lambda tx: begin_attempt(tx, queued, database.epoch, an_attempt()))
    started = await runs.run(WORKSPACE, queued.run_id)
    assert (started.state, started.attempt, started.fence) == (RunState.RUNNING, 1, fence)
    assert started.start_time > 0
    await database.writer.run(lambda tx: settle_run(tx, fence, COMPLETED))
    ended = await runs.run(WORKSPACE, queued.run_id)
    assert (ended.state, ended.finish_reason, ended.usage) == (RunState.COMPLETED, "stop", COMPLETED.usage)
    assert ended.end_time > 0
    (attempt,) = await runs.attempts(WORKSPACE, queued.run_id)
    assert (attempt.state, attempt.outcome) == (AttemptState.ENDED, "stop")


async def test_of_many_starts_of_one_run_one_wins(database: Database) -> None:
    queued = await a_queued_run(database)

    async def start() -> Fence | None:
        try:
            return await database.writer.run(lambda tx: begin_attempt(tx, queued, database.epoch, an_attempt()))
        except Stale:
            return None

    fences = await asyncio.gather(*(start() for _ in range(50)))
    assert sum(fence is not None for fence in fences) == 1
    assert len(await StoredRuns(database.reader).attempts(WORKSPACE, queued.run_id)) == 1


async def test_of_many_ends_of_one_run_one_wins(database: Database) -> None:
    fence = await an_executing_run(database)

    async def end(state: RunState) -> RunState | None:
        try:
            await database.writer.run(lambda tx: settle_run(tx, fence, Settlement(state=state)))
        except WrongState as refused:
            assert refused.reason == Reason.RUN_FINISHED
            return None
        return state

    wanted = [RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED] * 10
    won = [state for state in await asyncio.gather(*(end(state) for state in wanted)) if state]
    assert len(won) == 1
    assert (await StoredRuns(database.reader).run(WORKSPACE, fence.run_id)).state is won[0]


async def test_a_superseded_attempt_writes_nothing_any_more(database: Database) -> None:
    old = await an_executing_run(database)
    queued = await database.writer.run(lambda tx: requeue_run(tx, old, "host.restarted"))
    new = await database.writer.run(lambda tx: begin_attempt(tx, queued, database.epoch, an_attempt()))
    assert new.attempt == 2

    def refused_units() -> list:  # type: ignore[type-arg]
        return [
            lambda tx: check_fence(tx, old),
            lambda tx: append_ledger(tx, old, 0, entries(b"x")),
            lambda tx: settle_run(tx, old, COMPLETED),
            lambda tx: set_waiting(tx, old, True),
            lambda tx: requeue_run(tx, old, "again"),
            lambda tx: add_steer(tx, old, "str_1", "evt_1", b"", 16),
        ]

    for unit in refused_units():
        with pytest.raises(Stale) as refused:
            await database.writer.run(unit)
        assert refused.value.reason == Reason.ATTEMPT_SUPERSEDED
    run = await StoredRuns(database.reader).run(WORKSPACE, old.run_id)
    assert (run.state, run.last_sequence) == (RunState.RUNNING, 0)
    states = [attempt.state for attempt in await StoredRuns(database.reader).attempts(WORKSPACE, old.run_id)]
    assert states == [AttemptState.SUPERSEDED, AttemptState.LIVE]


async def test_the_fence_of_another_epoch_does_not_hold(database: Database) -> None:
    fence = await an_executing_run(database)
    other = Fence(fence.workspace_id, fence.run_id, fence.attempt, fence.epoch + 1)
    with pytest.raises(Stale):
        await database.writer.run(lambda tx: check_fence(tx, other))
    with pytest.raises(NotFound):
        await database.writer.run(lambda tx: check_fence(tx, Fence("other", fence.run_id, 1, fence.epoch)))


async def test_a_run_that_was_never_started_can_be_settled(database: Database) -> None:
    queued = await a_queued_run(database)

    def unit(tx: Transaction) -> None:
        append_ledger(tx, queued, 0, [LedgerEntry("run_failed", b"cancelled")])
        settle_run(tx, queued, Settlement(state=RunState.CANCELLED, failure=Failure("cancelled", "by its user")))

    await database.writer.run(unit)
    run = await StoredRuns(database.reader).run(WORKSPACE, queued.run_id)
    assert (run.state, run.failure, run.last_sequence) == (
        RunState.CANCELLED,
        Failure("cancelled", "by its user"),
        1,
    )


async def test_the_ledger_replays_byte_for_byte_over_attempts(database: Database) -> None:
    first = await an_executing_run(database)
    await database.writer.run(lambda tx: append_ledger(tx, first, 0, entries(b"\x00\xff", b"", "你".encode())))
    queued = await database.writer.run(lambda tx: requeue_run(tx, first, "host.restarted"))
    second = await database.writer.run(lambda tx: begin_attempt(tx, queued, database.epoch, an_attempt()))
    last = await database.writer.run(lambda tx: append_ledger(tx, second, 3, entries(b"reset", b"again")))
    assert last == 5
    ledger = await StoredRuns(database.reader).ledger(WORKSPACE, first.run_id, 0, 100)
    assert [(entry.sequence, entry.attempt, entry.payload) for entry in ledger] == [
        (1, 1, b"\x00\xff"),
        (2, 1, b""),
        (3, 1, "你".encode()),
        (4, 2, b"reset"),
        (5, 2, b"again"),
    ]
    rest = await StoredRuns(database.reader).ledger(WORKSPACE, first.run_id, 3, 100)
    assert rest == ledger[3:]


async def test_a_ledger_entry_out_of_order_is_refused(database: Database) -> None:
    fence = await an_executing_run(database)
    await database.writer.run(lambda tx: append_ledger(tx, fence, 0, entries(b"1", b"2")))
    for after in (0, 1, 3):
        with pytest.raises(Stale) as refused:
            await database.writer.run(partial(append_ledger, fence=fence, after=after, entries=entries(b"x")))
        assert refused.value.reason == Reason.STALE_VERSION
    await database.writer.run(lambda tx: settle_run(tx, fence, COMPLETED))
    with pytest.raises(WrongState):
        await database.writer.run(lambda tx: append_ledger(tx, fence, 2, entries(b"x")))


async def test_the_snapshot_of_a_run_never_changes(database: Database) -> None:
    fence = await an_executing_run(database)
    with pytest.raises(Conflict):
        await database.writer.run(lambda tx: freeze_snapshot(tx, WORKSPACE, fence.run_id, b"more rights", b"context"))
    assert await StoredRuns(database.reader).snapshot(WORKSPACE, fence.run_id) == (b"snapshot", b"context")
    with pytest.raises(NotFound):
        await StoredRuns(database.reader).snapshot("other", fence.run_id)


async def test_cancelling_is_noted_once_and_not_after_the_end(database: Database) -> None:
    fence = await an_executing_run(database)
    first = await database.writer.run(lambda tx: request_cancel(tx, WORKSPACE, fence.run_id, "enough"))
    second = await database.writer.run(lambda tx: request_cancel(tx, WORKSPACE, fence.run_id, "really"))
    run = await StoredRuns(database.reader).run(WORKSPACE, fence.run_id)
    assert (first, second, run.cancel_reason, run.cancelling) == (True, False, "enough", True)
    await database.writer.run(lambda tx: settle_run(tx, fence, Settlement(state=RunState.CANCELLED)))
    assert not await database.writer.run(lambda tx: request_cancel(tx, WORKSPACE, fence.run_id, "late"))
    assert not (await StoredRuns(database.reader).run(WORKSPACE, fence.run_id)).cancelling
    with pytest.raises(NotFound):
        await database.writer.run(lambda tx: request_cancel(tx, WORKSPACE, "run_0", "?"))


async def test_recovery_finds_every_open_run_in_order_and_no_ended_one(database: Database) -> None:
    fences = [await an_executing_run(database) for _ in range(3)]
    await database.writer.run(lambda tx: settle_run(tx, fences[1], COMPLETED))
    queued = await a_queued_run(database)
    await database.writer.run(lambda tx: set_waiting(tx, fences[2], True))
    runs = StoredRuns(database.reader)
    found = await runs.open_runs(None, 2)
    found += await runs.open_runs(found[-1], 2)
    assert [(run.run_id, run.state) for run in found] == [
        (fences[0].run_id, RunState.RUNNING),
        (fences[2].run_id, RunState.WAITING),
        (queued.run_id, RunState.QUEUED),
    ]
    assert found[0].fence == fences[0]
    assert await runs.open_count(WORKSPACE, "cnv_1") == 3


async def test_pages_of_runs_filter_and_go_on(database: Database) -> None:
    fences = [await an_executing_run(database, f"cnv_{number % 2}") for number in range(6)]
    await database.writer.run(lambda tx: settle_run(tx, fences[0], COMPLETED))
    runs = StoredRuns(database.reader)
    first = await runs.page(WORKSPACE, RunFilter(), FIRST_PAGE, 4)
    cursor = RunCursor(first[-1].event_sequence, first[-1].run_id)
    second = await runs.page(WORKSPACE, RunFilter(), cursor, 4)
    assert [run.run_id for run in first + second] == [fence.run_id for fence in reversed(fences)]
    even = await runs.page(WORKSPACE, RunFilter(conversation_id="cnv_0"), FIRST_PAGE, 9)
    assert len(even) == 3
    done = await runs.page(WORKSPACE, RunFilter(states=(RunState.COMPLETED, RunState.FAILED)), FIRST_PAGE, 9)
    assert [run.run_id for run in done] == [fences[0].run_id]
    assert await runs.page("other", RunFilter(), FIRST_PAGE, 9) == []


async def test_a_run_token_is_found_by_its_id(database: Database) -> None:
    queued = await a_queued_run(database)
    new = an_attempt()
    fence = await database.writer.run(lambda tx: begin_attempt(tx, queued, database.epoch, new))
    attempt = await StoredRuns(database.reader).attempt_of_token(new.token_id)
    assert (attempt.fence, attempt.token_hash, attempt.state) == (fence, new.token_hash, AttemptState.LIVE)
    with pytest.raises(NotFound):
        await StoredRuns(database.reader).attempt_of_token("att_0")


async def test_no_message_that_arrives_during_a_run_is_lost(database: Database) -> None:
    fence = await an_executing_run(database)
    for number in range(1, 4):
        await database.writer.run(
            partial(add_steer, fence=fence, steering_id=f"str_{number}", event_id=f"evt_{number}", payload=b"", limit=3)
        )
    with pytest.raises(LimitExceeded):
        await database.writer.run(lambda tx: add_steer(tx, fence, "str_4", "evt_4", b"", limit=3))
    await database.writer.run(lambda tx: mark_injected(tx, fence, [1]))
    assert await database.writer.run(lambda tx: add_steer(tx, fence, "str_5", "evt_5", b"", limit=3)) == 4

    def unit(tx: Transaction) -> list[str]:
        settle_run(tx, fence, COMPLETED)
        return [steer.event_id for steer in drop_steers(tx, WORKSPACE, fence.run_id)]

    assert await database.writer.run(unit) == ["evt_2", "evt_3", "evt_5"]
    states = [steer.state for steer in await StoredRuns(database.reader).steers(WORKSPACE, fence.run_id, 10)]
    assert states == [SteerState.INJECTED, SteerState.DROPPED, SteerState.DROPPED, SteerState.DROPPED]
    with pytest.raises(WrongState):
        await database.writer.run(lambda tx: add_steer(tx, fence, "str_6", "evt_6", b"", limit=3))
