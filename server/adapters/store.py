"""Where the host keeps what it remembers for adapters."""

from typing import Protocol

from portway.rpc.errors import NotFound, Reason, Stale
from portway.server.adapters.types import AdapterRecord
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns
from portway.server.storage_engine.transaction import Params, Transaction

_COLUMNS = columns(AdapterRecord)
_CONNECT = """
INSERT INTO adapters (workspace_id, adapter_id, platform, generation, connect_time)
VALUES (:workspace_id, :adapter_id, :platform, 1, :now)
ON CONFLICT (workspace_id, adapter_id) DO UPDATE SET
  platform = :platform, generation = adapters.generation + 1, connect_time = :now
RETURNING generation
"""
_SAVE = """
INSERT INTO adapter_cursors (workspace_id, adapter_id, name, value, update_time)
SELECT :workspace_id, :adapter_id, :name, :value, :now FROM adapters
WHERE workspace_id = :workspace_id AND adapter_id = :adapter_id AND generation = :generation
ON CONFLICT (workspace_id, adapter_id, name) DO UPDATE SET value = :value, update_time = :now
"""
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


def connect_adapter(tx: Transaction, workspace_id: str, adapter_id: str, platform: str) -> int:
    """A new connection: answers its generation. Whatever an older one still writes is refused."""
    params: Params = {
        "workspace_id": workspace_id,
        "adapter_id": adapter_id,
        "platform": platform,
        "now": tx.now,
    }
    row = tx.one(_CONNECT, params)
    if row is None:
        raise AssertionError("an INSERT … ON CONFLICT DO UPDATE … RETURNING answers one row")
    return int(row[0])


def save_cursor(tx: Transaction, workspace_id: str, adapter_id: str, name: str, value: str, generation: int) -> None:
    """Remember a value for the adapter. Raises Stale when the connection was replaced by a newer one."""
    params: Params = {
        "workspace_id": workspace_id,
        "adapter_id": adapter_id,
        "name": name,
        "value": value,
        "generation": generation,
        "now": tx.now,
    }
    if not tx.execute(_SAVE, params):
        raise Stale(f"A newer connection of adapter {adapter_id!r} has replaced this one.", reason=Reason.OLD_EPOCH)


class StoredAdapters:
    """What is remembered for adapters, in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def adapter(self, workspace_id: str, adapter_id: str) -> AdapterRecord:
        params = {"workspace_id": workspace_id, "adapter_id": adapter_id}
        row = await self._reader.run(lambda tx: tx.one(_BY_ID, params))
        if row is None:
            raise NotFound.of("adapter", adapter_id)
        return AdapterRecord(*row)

    async def cursors(self, workspace_id: str, adapter_id: str) -> dict[str, str]:
        params = {"workspace_id": workspace_id, "adapter_id": adapter_id}
        rows = await self._reader.run(lambda tx: tx.all(_CURSORS, params))
        return {row[0]: row[1] for row in rows}

    async def page(self, workspace_id: str, after: str, limit: int) -> list[AdapterRecord]:
        params: Params = {"workspace_id": workspace_id, "after": after, "limit": limit}
        return [AdapterRecord(*row) for row in await self._reader.run(lambda tx: tx.all(_PAGE, params))]
