"""Where schedules are kept."""

from typing import Protocol

from portway.rpc.errors import Conflict, NotFound, Stale
from portway.server.agents.types import ManagedBy
from portway.server.schedules.types import Advance, Schedule, ScheduleSpec, TimeOutcome
from portway.server.storage_engine.documents import from_json, to_json
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, typed
from portway.server.storage_engine.transaction import Params, ReadTransaction, Row, Transaction

_COLUMNS = columns(Schedule)
_ID = "workspace_id = :workspace_id AND schedule_id = :schedule_id"
_BY_ID = f"SELECT {_COLUMNS} FROM schedules WHERE {_ID}"
_PAGE = f"""
SELECT {_COLUMNS} FROM schedules WHERE workspace_id = :workspace_id AND schedule_id > :after
ORDER BY schedule_id LIMIT :limit
"""
_ALL = f"SELECT {_COLUMNS} FROM schedules WHERE workspace_id = :workspace_id ORDER BY schedule_id"
_COUNT = "SELECT COUNT(*) FROM schedules WHERE workspace_id = :workspace_id"
_DUE = f"""
SELECT {_COLUMNS} FROM schedules WHERE next_time > 0 AND next_time <= :now
ORDER BY next_time, workspace_id, schedule_id LIMIT :limit
"""
_NEXT = "SELECT MIN(next_time) FROM schedules WHERE next_time > 0"
_AFTER = f"""
SELECT {_COLUMNS} FROM schedules WHERE next_time > 0 AND (workspace_id, schedule_id) > (:workspace_id, :schedule_id)
ORDER BY workspace_id, schedule_id LIMIT :limit
"""
_INSERT = """
INSERT INTO schedules (workspace_id, schedule_id, revision, managed_by, name, spec, next_time, create_time, update_time)
VALUES (:workspace_id, :schedule_id, 1, :managed_by, :name, :spec, :next_time, :now, :now) ON CONFLICT DO NOTHING
"""
_NAMESAKE = """
SELECT 1 FROM schedules WHERE workspace_id = :workspace_id AND name = :name AND schedule_id <> :schedule_id
"""
_UPDATE = f"""
UPDATE schedules SET spec = :spec, name = :name, managed_by = :managed_by, next_time = :next_time,
  revision = revision + 1, update_time = :now
WHERE {_ID} AND (:expected = 0 OR revision = :expected) RETURNING {_COLUMNS}
"""
_DELETE = f"DELETE FROM schedules WHERE {_ID} AND (:expected = 0 OR revision = :expected)"
# Whoever has read an older time or an older revision changes nothing: another host, or an operator, was first.
_ADVANCE = f"""
UPDATE schedules SET next_time = :next_time, last_outcome = :outcome, last_reason = :reason,
  last_time = CASE WHEN :time = 0 THEN last_time ELSE :time END,
  last_event_id = CASE WHEN :event_id = '' THEN last_event_id ELSE :event_id END,
  last_run_id = CASE WHEN :run_id = '' THEN last_run_id ELSE :run_id END
WHERE {_ID} AND revision = :revision AND next_time = :expected
"""
_MOVE = f"UPDATE schedules SET next_time = :next_time WHERE {_ID} AND revision = :revision AND next_time = :expected"
_TRIGGERED = f"""
UPDATE schedules SET last_time = :now, last_event_id = :event_id, last_outcome = 'fired', last_reason = :reason,
  last_run_id = CASE WHEN :run_id = '' THEN last_run_id ELSE :run_id END
WHERE {_ID}
"""


class Schedules(Protocol):
    """What can be asked about schedules."""

    async def schedule(self, workspace_id: str, schedule_id: str) -> Schedule:
        """Raises NotFound."""

    async def page(self, workspace_id: str, after: str, limit: int) -> list[Schedule]:
        """By id, after the id `after` ('' to begin)."""

    async def due(self, now: int, limit: int) -> list[Schedule]:
        """Those of every workspace whose time has come, the longest waiting first."""

    async def next_time(self) -> int:
        """When the next one is due; 0 where none is."""

    async def waiting(self, after: tuple[str, str], limit: int) -> list[Schedule]:
        """Those of every workspace that have a next time, by (workspace_id, schedule_id) after the given one."""


def add_schedule(
    tx: Transaction,
    workspace_id: str,
    schedule_id: str,
    spec: ScheduleSpec,
    next_time: int,
    managed_by: ManagedBy = ManagedBy.API,
) -> Schedule:
    """Raises Conflict when the id or the name is taken."""
    params = _params(tx, workspace_id, schedule_id, spec, next_time, managed_by)
    if not tx.execute(_INSERT, params):
        raise Conflict(
            f"There is a schedule with the id {schedule_id!r} or the name {spec.name!r}. Choose others, or update it."
        )
    return read_schedule(tx, workspace_id, schedule_id)


def change_schedule(
    tx: Transaction,
    workspace_id: str,
    schedule_id: str,
    spec: ScheduleSpec,
    next_time: int,
    *,
    expected_revision: int = 0,
    managed_by: ManagedBy = ManagedBy.API,
) -> Schedule:
    """Raises NotFound; Stale when its revision is not the expected one (0: any); Conflict when the name is taken."""
    params = _params(tx, workspace_id, schedule_id, spec, next_time, managed_by)
    if tx.one(_NAMESAKE, params) is not None:
        raise Conflict(f"There is another schedule with the name {spec.name!r}. Choose another name.")
    row = tx.one(_UPDATE, {**params, "expected": expected_revision})
    if row is None:
        raise _stale(read_schedule(tx, workspace_id, schedule_id))
    return _schedule(row)


def remove_schedule(tx: Transaction, workspace_id: str, schedule_id: str, expected_revision: int = 0) -> None:
    """Raises NotFound; Stale when its revision is not the expected one (0: any)."""
    params: Params = {"workspace_id": workspace_id, "schedule_id": schedule_id, "expected": expected_revision}
    if not tx.execute(_DELETE, params):
        raise _stale(read_schedule(tx, workspace_id, schedule_id))


def advance_schedule(tx: Transaction, schedule: Schedule, advance: Advance) -> bool:
    """Note what became of its time; false where it was changed, or advanced by another, since it was read."""
    params: Params = {
        "workspace_id": schedule.workspace_id,
        "schedule_id": schedule.schedule_id,
        "revision": schedule.revision,
        "expected": schedule.next_time,
        "next_time": advance.next_time,
        "outcome": advance.outcome,
        "reason": advance.reason[:1000],
        "time": advance.time,
        "event_id": advance.event_id,
        "run_id": advance.run_id,
    }
    return tx.execute(_ADVANCE, params) > 0


def move_schedule(tx: Transaction, schedule: Schedule, next_time: int) -> bool:
    """Another next time, because the clock was set; false where it was changed since it was read."""
    params: Params = {
        "workspace_id": schedule.workspace_id,
        "schedule_id": schedule.schedule_id,
        "revision": schedule.revision,
        "expected": schedule.next_time,
        "next_time": next_time,
    }
    return tx.execute(_MOVE, params) > 0


def note_triggered(tx: Transaction, schedule: Schedule, event_id: str, run_id: str, reason: str) -> None:
    """Somebody has made its event by hand."""
    params: Params = {
        "workspace_id": schedule.workspace_id,
        "schedule_id": schedule.schedule_id,
        "event_id": event_id,
        "run_id": run_id,
        "reason": reason,
        "now": tx.now,
    }
    tx.execute(_TRIGGERED, params)


def find_schedule(tx: ReadTransaction, workspace_id: str, schedule_id: str) -> Schedule | None:
    """The schedule, if there is one."""
    row = tx.one(_BY_ID, {"workspace_id": workspace_id, "schedule_id": schedule_id})
    return _schedule(row) if row is not None else None


def read_schedule(tx: ReadTransaction, workspace_id: str, schedule_id: str) -> Schedule:
    """Raises NotFound."""
    schedule = find_schedule(tx, workspace_id, schedule_id)
    if schedule is None:
        raise NotFound.of("schedule", schedule_id)
    return schedule


def read_schedules(tx: ReadTransaction, workspace_id: str) -> list[Schedule]:
    """All of the workspace."""
    return [_schedule(row) for row in tx.all(_ALL, {"workspace_id": workspace_id})]


def count_schedules(tx: ReadTransaction, workspace_id: str) -> int:
    row = tx.one(_COUNT, {"workspace_id": workspace_id})
    return int(row[0]) if row else 0


def _params(
    tx: Transaction, workspace_id: str, schedule_id: str, spec: ScheduleSpec, next_time: int, managed_by: ManagedBy
) -> Params:
    return {
        "workspace_id": workspace_id,
        "schedule_id": schedule_id,
        "managed_by": managed_by,
        "name": spec.name,
        "spec": to_json(spec),
        "next_time": next_time,
        "now": tx.now,
    }


def _schedule(row: Row) -> Schedule:
    return Schedule(*typed(row, (3, ManagedBy), (4, lambda text: from_json(ScheduleSpec, text)), (9, TimeOutcome)))


def _stale(schedule: Schedule) -> Stale:
    return Stale(
        f"The schedule {schedule.schedule_id!r} is at revision {schedule.revision} now. Read it again, then write."
    )


class StoredSchedules:
    """Schedules in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def schedule(self, workspace_id: str, schedule_id: str) -> Schedule:
        return await self._reader.look(lambda tx: read_schedule(tx, workspace_id, schedule_id))

    async def page(self, workspace_id: str, after: str, limit: int) -> list[Schedule]:
        params: Params = {"workspace_id": workspace_id, "after": after, "limit": limit}
        return [_schedule(row) for row in await self._reader.run(lambda tx: tx.all(_PAGE, params))]

    async def due(self, now: int, limit: int) -> list[Schedule]:
        params: Params = {"now": now, "limit": limit}
        return [_schedule(row) for row in await self._reader.run(lambda tx: tx.all(_DUE, params))]

    async def next_time(self) -> int:
        row = await self._reader.run(lambda tx: tx.one(_NEXT, {}))
        return int(row[0] or 0) if row else 0

    async def waiting(self, after: tuple[str, str], limit: int) -> list[Schedule]:
        params: Params = {"workspace_id": after[0], "schedule_id": after[1], "limit": limit}
        return [_schedule(row) for row in await self._reader.run(lambda tx: tx.all(_AFTER, params))]
