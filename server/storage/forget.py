"""Forgetting what a plugin stored: in every workspace, in small units."""

from portway.server.storage.types import Area
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.transaction import Params, Transaction

_AT_ONCE = 200
_WHERE = "SELECT DISTINCT workspace_id FROM storage WHERE area = :area AND owner_id = :owner_id AND deleted = 0"
_MINE = "workspace_id = :workspace_id AND area = :area AND owner_id = :owner_id AND deleted = 0"
_FORGET = f"""
UPDATE storage SET value = :empty, sha256 = '', size = 0, deleted = 1, version = version + 1, update_time = :now
WHERE {_MINE} AND "key" IN (SELECT "key" FROM storage WHERE {_MINE} LIMIT :limit)
"""


async def forget_plugin(database: Database, plugin_id: str) -> int:
    """How many values it were. The bytes of large ones go with a later pass of retention: nothing names them then."""
    mine: Params = {"area": Area.PLUGIN, "owner_id": plugin_id}
    # Looked for where reading holds nobody up: no index leads from a plugin to its workspaces.
    workspaces = await database.reader.run(lambda tx: tx.all(_WHERE, mine))
    return sum([await _forget(database, {**mine, "workspace_id": one}) for (one,) in workspaces])


async def _forget(database: Database, mine: Params) -> int:
    def unit(tx: Transaction) -> int:
        return tx.execute(_FORGET, {**mine, "limit": _AT_ONCE, "empty": b"", "now": tx.now})

    forgotten = 0
    while count := await database.writer.run(unit):
        forgotten += count
    return forgotten
