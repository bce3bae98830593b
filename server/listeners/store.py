"""Where listeners are kept, with the cursor of each."""

from typing import Protocol

from portway.rpc.errors import LimitExceeded, NotFound, Quota
from portway.server.events.store import STREAM
from portway.server.listeners.types import Beginning, Listener
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, typed
from portway.server.storage_engine.sequences import latest
from portway.server.storage_engine.transaction import Params, ReadTransaction, Row, Transaction

MAX_LISTENERS = 50

_COLUMNS = columns(Listener)
_ID = "workspace_id = :workspace_id AND listener_id = :listener_id"
_BY_ID = f"SELECT {_COLUMNS} FROM listeners WHERE {_ID}"
_OF_WORKSPACE = f"SELECT {_COLUMNS} FROM listeners WHERE workspace_id = :workspace_id ORDER BY listener_id"
_COUNT = "SELECT count(*) FROM listeners WHERE workspace_id = :workspace_id AND enabled = 1"
_ENABLE = f"""
INSERT INTO listeners
  (workspace_id, listener_id, enabled, sequence, delivered_count, missed_count, untold_count, trouble, update_time)
VALUES (:workspace_id, :listener_id, 1, :sequence, 0, 0, 0, '', :now)
ON CONFLICT (workspace_id, listener_id) DO UPDATE SET
  sequence = CASE WHEN :moved = 1 AND listeners.enabled = 0 THEN :sequence ELSE listeners.sequence END,
  trouble = CASE WHEN listeners.enabled = 0 THEN '' ELSE listeners.trouble END, enabled = 1, update_time = :now
RETURNING {_COLUMNS}
"""
_DISABLE = f"UPDATE listeners SET enabled = 0, trouble = '', update_time = :now WHERE {_ID} AND enabled = 1"
# Whoever read another cursor changes nothing: it was disabled, begun anew, or another host was first.
_ADVANCE = f"""
UPDATE listeners SET sequence = :sequence, delivered_count = delivered_count + :delivered,
  missed_count = missed_count + :missed, untold_count = :untold, trouble = :trouble, update_time = :now
WHERE {_ID} AND enabled = 1 AND sequence = :before
"""
_TROUBLE = f"UPDATE listeners SET trouble = :trouble WHERE {_ID} AND enabled = 1 AND trouble <> :trouble"
_BEHIND = f"""
SELECT {_COLUMNS.replace("workspace_id", "listeners.workspace_id", 1)} FROM listeners
JOIN sequences ON sequences.workspace_id = listeners.workspace_id AND sequences.stream = :stream
WHERE enabled = 1 AND sequences.value > listeners.sequence
ORDER BY listeners.workspace_id, listener_id LIMIT :limit
"""
_LAGS = """
SELECT listener_id, max(sequences.value - listeners.sequence), sum(missed_count) FROM listeners
JOIN sequences ON sequences.workspace_id = listeners.workspace_id AND sequences.stream = :stream
WHERE enabled = 1 GROUP BY listener_id
"""


class Listeners(Protocol):
    """What can be asked about listeners."""

    async def of_workspace(self, workspace_id: str) -> tuple[list[Listener], int]:
        """All that were ever enabled, by id, and the number of the workspace's last event."""

    async def behind(self, limit: int) -> list[Listener]:
        """Those of every workspace that are enabled and have not seen its last event."""

    async def lags(self) -> list[tuple[str, int, int]]:
        """Of each enabled listener: its id, the longest way behind in any workspace, and events missed in all."""


def enable_listener(tx: Transaction, workspace_id: str, listener_id: str, beginning: Beginning) -> Listener:
    """Enabled as it is now. Raises LimitExceeded for too many of a workspace."""
    count = tx.one(_COUNT, {"workspace_id": workspace_id})
    if count is not None and count[0] >= MAX_LISTENERS:
        raise LimitExceeded(
            f"{MAX_LISTENERS} listeners observe the workspace already; disable one that is not needed",
            quota=Quota(workspace_id, f"{MAX_LISTENERS} listeners"),
        )
    sequence = 0 if beginning is Beginning.OLDEST else latest(tx, workspace_id, STREAM)
    params: Params = {
        "workspace_id": workspace_id,
        "listener_id": listener_id,
        "sequence": sequence,
        "moved": int(beginning is not Beginning.RESUME),
        "now": tx.now,
    }
    row = tx.one(_ENABLE, params)
    if row is None:
        raise AssertionError("an INSERT … ON CONFLICT DO UPDATE … RETURNING answers one row")
    return _listener(row)


def disable_listener(tx: Transaction, workspace_id: str, listener_id: str) -> Listener:
    """Disabled as it is now. Raises NotFound where it is not enabled."""
    params: Params = {"workspace_id": workspace_id, "listener_id": listener_id}
    if not tx.execute(_DISABLE, {**params, "now": tx.now}):
        raise NotFound.of("enabled listener", listener_id)
    return read_listener(tx, workspace_id, listener_id)


def read_listener(tx: ReadTransaction, workspace_id: str, listener_id: str) -> Listener:
    """Raises NotFound."""
    row = tx.one(_BY_ID, {"workspace_id": workspace_id, "listener_id": listener_id})
    if row is None:
        raise NotFound.of("listener", listener_id)
    return _listener(row)


def advance_listener(
    tx: Transaction, before: Listener, sequence: int, *, delivered: int = 0, missed: int = 0, untold: int = 0
) -> bool:
    """It has come to an event. False where it is not where it was: then nothing has changed."""
    params: Params = {
        "workspace_id": before.workspace_id,
        "listener_id": before.listener_id,
        "before": before.sequence,
        "sequence": sequence,
        "delivered": delivered,
        "missed": missed,
        "untold": untold,
        "trouble": "",
        "now": tx.now,
    }
    return bool(tx.execute(_ADVANCE, params))


def trouble_listener(tx: Transaction, listener: Listener, trouble: str) -> None:
    """Why it is not getting on, for people."""
    params: Params = {
        "workspace_id": listener.workspace_id,
        "listener_id": listener.listener_id,
        "trouble": trouble[:1_000],
    }
    tx.execute(_TROUBLE, params)


class StoredListeners:
    """Listeners in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def of_workspace(self, workspace_id: str) -> tuple[list[Listener], int]:
        def look(tx: ReadTransaction) -> tuple[list[Listener], int]:
            rows = tx.all(_OF_WORKSPACE, {"workspace_id": workspace_id})
            return [_listener(row) for row in rows], latest(tx, workspace_id, STREAM)

        return await self._reader.run(look)

    async def behind(self, limit: int) -> list[Listener]:
        params: Params = {"stream": STREAM, "limit": limit}
        return [_listener(row) for row in await self._reader.run(lambda tx: tx.all(_BEHIND, params))]

    async def lags(self) -> list[tuple[str, int, int]]:
        rows = await self._reader.run(lambda tx: tx.all(_LAGS, {"stream": STREAM}))
        return [(str(row[0]), int(row[1]), int(row[2])) for row in rows]


def _listener(row: Row) -> Listener:
    return Listener(*typed(row, (2, bool)))
