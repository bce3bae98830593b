"""Where runs are kept: what can be asked about them. What is written is in `attempts.py` and `ledger.py`."""

from typing import Protocol

from portway.rpc.errors import NotFound
from portway.server.runs.ledger import read_ledger
from portway.server.runs.types import (
    Attempt,
    AttemptState,
    Failure,
    LedgerEvent,
    OpenRun,
    Run,
    RunCursor,
    RunFilter,
    RunState,
    Steer,
    SteerState,
    Usage,
)
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, one_of, typed, values
from portway.server.storage_engine.transaction import Params, ReadTransaction, Row, SqlValue

_FAILURE = "error_code, error_message, retryable"
_FILTERS = ("conversation_id", "agent_id", "event_id", "parent_run_id")
_COLUMNS = f"{columns(Run, 'failure', 'usage')}, {_FAILURE}, {columns(Usage)}"
_BY_ID = f"SELECT {_COLUMNS} FROM runs WHERE workspace_id = :workspace_id AND run_id = :run_id"
_PAGE = f"""
SELECT {_COLUMNS} FROM runs
WHERE workspace_id = :workspace_id AND (event_sequence, run_id) < (:event_sequence, :run_id) AND {{conditions}}
ORDER BY event_sequence DESC, run_id DESC LIMIT :limit
"""
_OPEN = f"""
SELECT {columns(OpenRun)} FROM runs
WHERE state IN ('queued', 'running', 'waiting')
  AND (workspace_id, event_sequence, run_id) > (:workspace_id, :event_sequence, :run_id)
ORDER BY workspace_id, event_sequence, run_id LIMIT :limit
"""
_OPEN_COUNT = """
SELECT COUNT(*) FROM runs
WHERE workspace_id = :workspace_id AND conversation_id = :conversation_id AND state IN ('queued', 'running', 'waiting')
"""
_ATTEMPTS = f"""
SELECT {columns(Attempt)} FROM run_attempts
WHERE workspace_id = :workspace_id AND run_id = :run_id ORDER BY attempt
"""
_BY_TOKEN = f"SELECT {columns(Attempt)} FROM run_attempts WHERE token_id = :token_id"
_SNAPSHOT = "SELECT snapshot, context FROM run_snapshots WHERE workspace_id = :workspace_id AND run_id = :run_id"
_STEERS = f"""
SELECT {columns(Steer)} FROM run_steers
WHERE workspace_id = :workspace_id AND run_id = :run_id ORDER BY position LIMIT :limit
"""

FIRST_PAGE = RunCursor(event_sequence=2**62, run_id="")


class Runs(Protocol):
    """What can be asked about runs."""

    async def run(self, workspace_id: str, run_id: str) -> Run:
        """Raises NotFound."""

    async def page(self, workspace_id: str, which: RunFilter, after: RunCursor, limit: int) -> list[Run]:
        """Newest event first, after the cursor (FIRST_PAGE to begin)."""

    async def open_runs(self, after: OpenRun | None, limit: int) -> list[OpenRun]:
        """Runs of every workspace that have not ended, in order of their events; for recovery."""

    async def open_count(self, workspace_id: str, conversation_id: str) -> int:
        """How many runs of a conversation have not ended."""

    async def attempts(self, workspace_id: str, run_id: str) -> list[Attempt]:
        """Oldest first; none before the run is started."""

    async def attempt_of_token(self, token_id: str) -> Attempt:
        """Raises NotFound. The caller compares the hash, and then the state."""


class Ledgers(Protocol):
    """What can be asked about what runs said and were told."""

    async def ledger(self, workspace_id: str, run_id: str, after: int, limit: int) -> list[LedgerEvent]:
        """Committed entries above sequence `after`, byte for byte as they were appended."""

    async def snapshot(self, workspace_id: str, run_id: str) -> tuple[bytes, bytes]:
        """The frozen snapshot and context. Raises NotFound before the run was started."""

    async def steers(self, workspace_id: str, run_id: str, limit: int) -> list[Steer]:
        """Messages that arrived during the run, in order."""


def read_run(tx: ReadTransaction, workspace_id: str, run_id: str) -> Run:
    """Raises NotFound."""
    row = tx.one(_BY_ID, {"workspace_id": workspace_id, "run_id": run_id})
    if row is None:
        raise NotFound.of("run", run_id)
    return _run(row)


def _run(row: Row) -> Run:
    failure = Failure(row[24], row[25], bool(row[26]))
    return Run(*typed((*row[:24], failure, Usage(*row[27:])), (13, RunState)))


def _open_run(row: Row) -> OpenRun:
    return OpenRun(*typed(row, (6, RunState)))


def _attempt(row: Row) -> Attempt:
    return Attempt(*typed(row, (4, AttemptState)))


class StoredRuns:
    """Runs and their ledgers in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def run(self, workspace_id: str, run_id: str) -> Run:
        return await self._reader.look(lambda tx: read_run(tx, workspace_id, run_id))

    async def page(self, workspace_id: str, which: RunFilter, after: RunCursor, limit: int) -> list[Run]:
        states, chosen = one_of("state", which.states)
        conditions = [states, *(f"{name} = :{name}" for name in _FILTERS if getattr(which, name))]
        sql = _PAGE.format(conditions=" AND ".join(conditions))
        params: Params = {
            "workspace_id": workspace_id,
            "limit": limit,
            **{name: getattr(which, name) for name in _FILTERS},
            **values(after),
            **chosen,
        }
        return [_run(row) for row in await self._reader.run(lambda tx: tx.all(sql, params))]

    async def open_runs(self, after: OpenRun | None, limit: int) -> list[OpenRun]:
        params: Params = {
            "workspace_id": after.workspace_id if after else "",
            "event_sequence": after.event_sequence if after else 0,
            "run_id": after.run_id if after else "",
            "limit": limit,
        }
        return [_open_run(row) for row in await self._reader.run(lambda tx: tx.all(_OPEN, params))]

    async def open_count(self, workspace_id: str, conversation_id: str) -> int:
        params = {"workspace_id": workspace_id, "conversation_id": conversation_id}
        row = await self._reader.run(lambda tx: tx.one(_OPEN_COUNT, params))
        return int(row[0]) if row else 0

    async def attempts(self, workspace_id: str, run_id: str) -> list[Attempt]:
        params = {"workspace_id": workspace_id, "run_id": run_id}
        return [_attempt(row) for row in await self._reader.look(lambda tx: tx.all(_ATTEMPTS, params))]

    async def attempt_of_token(self, token_id: str) -> Attempt:
        row = await self._reader.look(lambda tx: tx.one(_BY_TOKEN, {"token_id": token_id}))
        if row is None:
            raise NotFound.of("run token", token_id)
        return _attempt(row)

    async def ledger(self, workspace_id: str, run_id: str, after: int, limit: int) -> list[LedgerEvent]:
        return await self._reader.run(lambda tx: read_ledger(tx, workspace_id, run_id, after, limit))

    async def snapshot(self, workspace_id: str, run_id: str) -> tuple[bytes, bytes]:
        params = {"workspace_id": workspace_id, "run_id": run_id}
        row = await self._reader.look(lambda tx: tx.one(_SNAPSHOT, params))
        if row is None:
            raise NotFound.of("snapshot of run", run_id)
        return row[0], row[1]

    async def steers(self, workspace_id: str, run_id: str, limit: int) -> list[Steer]:
        params: dict[str, SqlValue] = {"workspace_id": workspace_id, "run_id": run_id, "limit": limit}
        rows = await self._reader.look(lambda tx: tx.all(_STEERS, params))
        return [Steer(*typed(row, (5, SteerState))) for row in rows]
