"""Erasing files: the bytes first, then what refers to them, so that an erasure that was cut off finds both again."""

from portway.server.artifacts.store import remove_artifact
from portway.server.erasure.store import advance_erasure
from portway.server.erasure.types import Erasure
from portway.server.storage_engine.blob_references import BLOB_REFERENCES
from portway.server.storage_engine.blobs import Blobs
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.transaction import Params, Transaction

_AT_ONCE = 100
_ARTIFACTS = "SELECT artifact_id, sha256 FROM artifacts WHERE workspace_id = :workspace_id AND {condition} LIMIT :limit"
_REFERENCES = "SELECT " + " + ".join(
    f"(SELECT count(*) FROM {table} WHERE workspace_id = :workspace_id AND {column} = :sha256)"
    for table, column in BLOB_REFERENCES
)
_OBJECTS = """
SELECT area, owner_id, "key", sha256 FROM storage
WHERE workspace_id = :workspace_id AND deleted = 0 AND "key" LIKE :pattern ESCAPE '!' LIMIT :limit
"""
_DROP_OBJECT = """
UPDATE storage SET value = :empty, sha256 = '', size = 0, deleted = 1, version = version + 1, update_time = :now
WHERE workspace_id = :workspace_id AND area = :area AND owner_id = :owner_id AND "key" = :key AND deleted = 0
"""


class FileEraser:
    """Artifacts and stored objects of an erasure."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    async def artifacts(self, erasure: Erasure, condition: str, params: Params) -> None:
        """`condition` is from the code."""
        workspace_id = erasure.workspace_id
        wanted: Params = {**params, "workspace_id": workspace_id, "limit": _AT_ONCE}
        sql = _ARTIFACTS.format(condition=condition)
        while rows := await self._database.reader.run(lambda tx: tx.all(sql, wanted)):
            for artifact_id, sha256 in rows:
                await self._drop_bytes(workspace_id, sha256)

                def unit(tx: Transaction, artifact_id: str = artifact_id) -> None:
                    remove_artifact(tx, workspace_id, artifact_id)
                    advance_erasure(tx, erasure, -1, 0, 1)

                await self._database.writer.run(unit)

    async def objects(self, erasure: Erasure, name: str) -> None:
        """Stored objects whose key holds the name of a conversation or of an account."""
        workspace_id = erasure.workspace_id
        quoted = "".join(f"!{one}" if one in "!%_" else one for one in name)
        wanted: Params = {"workspace_id": workspace_id, "pattern": f"%{quoted}%", "limit": _AT_ONCE}
        while rows := await self._database.reader.run(lambda tx: tx.all(_OBJECTS, wanted)):
            for area, owner_id, key, sha256 in rows:
                if sha256:
                    await self._drop_bytes(workspace_id, sha256)
                named: Params = {"workspace_id": workspace_id, "area": area, "owner_id": owner_id, "key": key}

                def unit(tx: Transaction, named: Params = named) -> None:
                    changed = tx.execute(_DROP_OBJECT, {**named, "empty": b"", "now": tx.now})
                    advance_erasure(tx, erasure, -1, changed)

                await self._database.writer.run(unit)

    async def _drop_bytes(self, workspace_id: str, sha256: str) -> None:
        """Unless something else is the same file."""
        params: Params = {"workspace_id": workspace_id, "sha256": sha256}
        row = await self._database.reader.run(lambda tx: tx.one(_REFERENCES, params))
        if row is not None and row[0] <= 1:
            await self._blobs.remove(workspace_id, sha256, older_than=0.0)
