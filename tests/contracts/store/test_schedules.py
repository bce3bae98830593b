"""Schedules: found when they are due, moved on once."""

import pytest

from portway.rpc.errors import Conflict, NotFound, Stale
from portway.server.schedules.store import (
    StoredSchedules,
    add_schedule,
    advance_schedule,
    change_schedule,
    count_schedules,
    move_schedule,
    remove_schedule,
)
from portway.server.schedules.types import Advance, ScheduleSpec, TimeOutcome
from portway.server.storage_engine.database import Database
from tests.contracts.store.given import WORKSPACE

SPEC = ScheduleSpec(name="Daily", cron="@daily", agent_id="helper", data_json='{"city":"京都"}')


async def test_a_schedule_is_read_back_as_it_was_written(database: Database) -> None:
    added = await database.writer.run(lambda tx: add_schedule(tx, WORKSPACE, "daily", SPEC, 500))
    schedules = StoredSchedules(database.reader)
    assert await schedules.schedule(WORKSPACE, "daily") == added
    assert (added.spec, added.next_time, added.last_outcome) == (SPEC, 500, TimeOutcome.NONE)
    with pytest.raises(NotFound):
        await schedules.schedule("other", "daily")
    with pytest.raises(Conflict):
        await database.writer.run(lambda tx: add_schedule(tx, WORKSPACE, "second", SPEC, 500))
    assert await database.reader.run(lambda tx: count_schedules(tx, WORKSPACE)) == 1


async def test_what_is_due_is_found_in_every_workspace(database: Database) -> None:
    schedules = StoredSchedules(database.reader)
    assert await schedules.next_time() == 0
    for workspace_id, time in ((WORKSPACE, 300), ("other", 100), ("third", 0)):
        await database.writer.run(lambda tx, w=workspace_id, t=time: add_schedule(tx, w, "daily", SPEC, t))  # type: ignore[misc]
    assert await schedules.next_time() == 100
    assert [one.workspace_id for one in await schedules.due(299, 10)] == ["other"]
    assert [one.workspace_id for one in await schedules.due(300, 10)] == ["other", WORKSPACE]
    assert len(await schedules.due(300, 1)) == 1
    first = await schedules.waiting(("", ""), 1)
    rest = await schedules.waiting((first[0].workspace_id, first[0].schedule_id), 10)
    assert sorted(one.workspace_id for one in [*first, *rest]) == sorted([WORKSPACE, "other"])


async def test_it_moves_on_once_from_the_time_that_was_read(database: Database) -> None:
    read = await database.writer.run(lambda tx: add_schedule(tx, WORKSPACE, "daily", SPEC, 500))
    fired = Advance(next_time=600, outcome=TimeOutcome.FIRED, time=500, event_id="evt_1", run_id="run_1")
    assert await database.writer.run(lambda tx: advance_schedule(tx, read, fired))
    assert not await database.writer.run(lambda tx: advance_schedule(tx, read, fired))
    assert not await database.writer.run(lambda tx: move_schedule(tx, read, 700))
    schedules = StoredSchedules(database.reader)
    after = await schedules.schedule(WORKSPACE, "daily")
    assert (after.next_time, after.last_time, after.last_event_id, after.last_run_id) == (600, 500, "evt_1", "run_1")
    skipped = Advance(next_time=700, outcome=TimeOutcome.SKIPPED, reason="busy")
    assert await database.writer.run(lambda tx: advance_schedule(tx, after, skipped))
    left = await schedules.schedule(WORKSPACE, "daily")
    assert (left.last_time, left.last_run_id, left.last_outcome, left.last_reason) == (500, "run_1", "skipped", "busy")


async def test_it_is_changed_from_the_revision_that_was_read(database: Database) -> None:
    read = await database.writer.run(lambda tx: add_schedule(tx, WORKSPACE, "daily", SPEC, 500))
    changed = await database.writer.run(
        lambda tx: change_schedule(tx, WORKSPACE, "daily", SPEC, 800, expected_revision=1)
    )
    assert (changed.revision, changed.next_time) == (2, 800)
    with pytest.raises(Stale):
        await database.writer.run(lambda tx: change_schedule(tx, WORKSPACE, "daily", SPEC, 9, expected_revision=1))
    # Whoever fires what it was before is too late.
    assert not await database.writer.run(
        lambda tx: advance_schedule(tx, read, Advance(next_time=1, outcome=TimeOutcome.FIRED))
    )
    await database.writer.run(lambda tx: remove_schedule(tx, WORKSPACE, "daily", 2))
    with pytest.raises(NotFound):
        await database.writer.run(lambda tx: remove_schedule(tx, WORKSPACE, "daily"))
