"""Where the host keeps what it remembers for adapters."""

from dataclasses import dataclass
from typing import Protocol

from portway.rpc.errors import LimitExceeded, NotFound, Reason, Stale
from portway.server.adapters.types import AdapterRecord, Introduction, SurfaceRecord
from portway.server.storage_engine.documents import from_json, to_json
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, typed
from portway.server.storage_engine.transaction import Params, Row, Transaction

MAX_CURSORS = 1_024
# All of them go into one message, the welcome of the next connection.
MAX_CURSOR_BYTES = 2 * 1024 * 1024
_SMALL = 1_024

_COLUMNS = columns(AdapterRecord)
_CONNECT = """
INSERT INTO adapters (workspace_id, adapter_id, platform, version, surfaces, generation, change_time)
VALUES (:workspace_id, :adapter_id, :platform, :version, :surfaces, 1, :now)
ON CONFLICT (workspace_id, adapter_id) DO UPDATE SET platform = :platform, version = :version, surfaces = :surfaces,
  generation = adapters.generation + 1, change_time = :now
RETURNING generation
"""
_LEAVE = """
UPDATE adapters SET change_time = :now
WHERE workspace_id = :workspace_id AND adapter_id = :adapter_id AND generation = :generation
"""
_NEWEST = """
SELECT 1 FROM adapters
WHERE workspace_id = :workspace_id AND adapter_id = :adapter_id AND generation = :generation
"""
_SAVE = """
INSERT INTO adapter_cursors (workspace_id, adapter_id, name, value, update_time)
VALUES (:workspace_id, :adapter_id, :name, :value, :now)
ON CONFLICT (workspace_id, adapter_id, name) DO UPDATE SET value = :value, update_time = :now
"""
_CHANGE = """
UPDATE adapter_cursors SET value = :value, update_time = :now
WHERE workspace_id = :workspace_id AND adapter_id = :adapter_id AND name = :name
"""
_FORGET = """
DELETE FROM adapter_cursors WHERE workspace_id = :workspace_id AND adapter_id = :adapter_id AND name = :name
"""
_WEIGHT = """
SELECT COALESCE(SUM(length(name) + length(value)), 0) FROM adapter_cursors
WHERE workspace_id = :workspace_id AND adapter_id = :adapter_id AND name <> :name
"""
_COUNT = "SELECT COUNT(*) FROM adapter_cursors WHERE workspace_id = :workspace_id AND adapter_id = :adapter_id"
_CURSORS = """
SELECT name, value FROM adapter_cursors WHERE workspace_id = :workspace_id AND adapter_id = :adapter_id ORDER BY name
"""
_BY_ID = f"SELECT {_COLUMNS} FROM adapters WHERE workspace_id = :workspace_id AND adapter_id = :adapter_id"
_PAGE = f"""
SELECT {_COLUMNS} FROM adapters WHERE workspace_id = :workspace_id AND adapter_id > :after
ORDER BY adapter_id LIMIT :limit
"""


class Adapters(Protocol):
    """What can be asked about adapters."""

    async def adapter(self, workspace_id: str, adapter_id: str) -> AdapterRecord:
        """Raises NotFound before it connected for the first time."""

    async def cursors(self, workspace_id: str, adapter_id: str) -> dict[str, str]:
        """What the adapter saved, by name."""

    async def page(self, workspace_id: str, after: str, limit: int) -> list[AdapterRecord]:
        """By id, after the id `after` ('' to begin)."""


def connect_adapter(tx: Transaction, workspace_id: str, introduction: Introduction) -> int:
    """A new connection: answers its generation. Whatever an older one still writes is refused."""
    params: Params = {
        "workspace_id": workspace_id,
        "adapter_id": introduction.adapter_id,
        "platform": introduction.platform,
        "version": introduction.version,
        "surfaces": to_json(_Surfaces(introduction.surfaces)),
        "now": tx.now,
    }
    row = tx.one(_CONNECT, params)
    if row is None:
        raise AssertionError("an INSERT … ON CONFLICT DO UPDATE … RETURNING answers one row")
    return int(row[0])


def leave_adapter(tx: Transaction, workspace_id: str, adapter_id: str, generation: int) -> None:
    """The connection has ended. A newer one is not touched."""
    tx.execute(
        _LEAVE,
        {"workspace_id": workspace_id, "adapter_id": adapter_id, "generation": generation, "now": tx.now},
    )


def save_cursor(tx: Transaction, workspace_id: str, adapter_id: str, name: str, value: str, generation: int) -> None:
    """Remember a value for the adapter; an empty one forgets the name.

    Raises Stale when the connection was replaced by a newer one; LimitExceeded when it keeps too many names.
    """
    params: Params = {
        "workspace_id": workspace_id,
        "adapter_id": adapter_id,
        "name": name,
        "value": value,
        "generation": generation,
        "now": tx.now,
    }
    if tx.one(_NEWEST, params) is None:
        raise Stale(f"A newer connection of adapter {adapter_id!r} has replaced this one.", reason=Reason.OLD_EPOCH)
    if len(value) > _SMALL:
        _check_weight(tx, params, len(value))
    if not value:
        tx.execute(_FORGET, params)
    elif not tx.execute(_CHANGE, params):
        count = tx.one(_COUNT, params)
        if count is not None and count[0] >= MAX_CURSORS:
            raise LimitExceeded(
                f"The adapter {adapter_id!r} keeps {MAX_CURSORS} values already. Let it forget some (empty value)."
            )
        tx.execute(_SAVE, params)


def _check_weight(tx: Transaction, params: Params, more: int) -> None:
    """Small values cannot be too much together: there are not that many."""
    row = tx.one(_WEIGHT, params)
    if row is not None and row[0] + more > MAX_CURSOR_BYTES:
        raise LimitExceeded(
            f"The adapter {params['adapter_id']!r} would keep more than {MAX_CURSOR_BYTES // 1024} KiB. Let it "
            "forget some (empty value)."
        )


@dataclass(frozen=True, slots=True)
class _Surfaces:
    surfaces: tuple[SurfaceRecord, ...] = ()


def _record(row: Row) -> AdapterRecord:
    return AdapterRecord(*typed(row, (4, lambda text: from_json(_Surfaces, text).surfaces)))


class StoredAdapters:
    """What is remembered for adapters, in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def adapter(self, workspace_id: str, adapter_id: str) -> AdapterRecord:
        params = {"workspace_id": workspace_id, "adapter_id": adapter_id}
        row = await self._reader.look(lambda tx: tx.one(_BY_ID, params))
        if row is None:
            raise NotFound.of("adapter", adapter_id)
        return _record(row)

    async def cursors(self, workspace_id: str, adapter_id: str) -> dict[str, str]:
        params = {"workspace_id": workspace_id, "adapter_id": adapter_id}
        rows = await self._reader.run(lambda tx: tx.all(_CURSORS, params))
        return {row[0]: row[1] for row in rows}

    async def page(self, workspace_id: str, after: str, limit: int) -> list[AdapterRecord]:
        params: Params = {"workspace_id": workspace_id, "after": after, "limit": limit}
        return [_record(row) for row in await self._reader.run(lambda tx: tx.all(_PAGE, params))]
