"""Where artifacts are kept (their metadata)."""

from collections.abc import Sequence
from typing import Protocol

from portway.rpc.errors import NotFound
from portway.server.artifacts.types import Artifact, ArtifactFilter, NewArtifact
from portway.server.storage_engine.blob_references import IN_USE
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, values
from portway.server.storage_engine.transaction import ReadTransaction, SqlValue, Transaction

_COLUMNS = columns(Artifact)
_ALIVE = "(expire_time = 0 OR expire_time > :now)"
_BY_ID = f"""
SELECT {_COLUMNS} FROM artifacts WHERE workspace_id = :workspace_id AND artifact_id = :artifact_id AND {_ALIVE}
"""
_PAGE = f"""
SELECT {_COLUMNS} FROM artifacts
WHERE workspace_id = :workspace_id AND (create_time, artifact_id) < (:create_time, :artifact_id) AND {_ALIVE}
  AND (:conversation_id = '' OR conversation_id = :conversation_id) AND (:run_id = '' OR run_id = :run_id)
  AND (:event_id = '' OR event_id = :event_id)
ORDER BY create_time DESC, artifact_id DESC LIMIT :limit
"""
_OF_RUN = f"""
SELECT {_COLUMNS} FROM artifacts WHERE workspace_id = :workspace_id AND run_id = :run_id AND run_id <> '' AND {_ALIVE}
ORDER BY create_time, artifact_id LIMIT :limit
"""
_KEEP = """
UPDATE artifacts SET event_id = :event_id, conversation_id = :conversation_id, expire_time = :expire_time
WHERE workspace_id = :workspace_id AND artifact_id = :artifact_id AND (expire_time = 0 OR expire_time > :now)
"""
_EXPIRED = """
SELECT workspace_id, artifact_id, sha256 FROM artifacts WHERE expire_time > 0 AND expire_time <= :now
ORDER BY expire_time LIMIT :limit
"""
_DELETE = "DELETE FROM artifacts WHERE workspace_id = :workspace_id AND artifact_id = :artifact_id"
_BYTES = "SELECT sum(size) FROM artifacts WHERE workspace_id = :workspace_id"

FIRST_PAGE = (2**62, "")


class Artifacts(Protocol):
    """What can be asked about artifacts. An expired one is as if it had never been."""

    async def artifact(self, workspace_id: str, artifact_id: str) -> Artifact:
        """Raises NotFound."""

    async def page(
        self, workspace_id: str, which: ArtifactFilter, after: tuple[int, str], limit: int
    ) -> list[Artifact]:
        """Newest first, after (create_time, artifact_id) (FIRST_PAGE to begin)."""

    async def of_run(self, workspace_id: str, run_id: str, limit: int) -> list[Artifact]:
        """Oldest first."""

    async def blob_in_use(self, workspace_id: str, sha256: str) -> bool:
        """True while anything refers to the bytes."""


def add_artifact(tx: Transaction, artifact: NewArtifact) -> None:
    """Called after the bytes are in the blob store."""
    tx.insert_many("artifacts", [values(artifact, create_time=tx.now)])


def attach_artifacts(
    tx: Transaction,
    workspace_id: str,
    artifact_ids: Sequence[str],
    *,
    event_id: str,
    conversation_id: str,
    expire_time: int = 0,
) -> None:
    """Uploads that a message refers to are kept with it instead of expiring.

    Raises NotFound for one that is not there.
    """
    for artifact_id in artifact_ids:
        params: dict[str, SqlValue] = {
            "workspace_id": workspace_id,
            "artifact_id": artifact_id,
            "event_id": event_id,
            "conversation_id": conversation_id,
            "expire_time": expire_time,
            "now": tx.now,
        }
        if not tx.execute(_KEEP, params):
            raise NotFound.of("artifact", artifact_id)


def remove_artifact(tx: Transaction, workspace_id: str, artifact_id: str) -> str:
    """Delete an artifact; answers the digest of bytes that may be in use no longer. Raises NotFound."""
    row = tx.one(f"{_DELETE} RETURNING sha256", {"workspace_id": workspace_id, "artifact_id": artifact_id})
    if row is None:
        raise NotFound.of("artifact", artifact_id)
    return str(row[0])


def remove_expired(tx: Transaction, limit: int) -> list[tuple[str, str]]:
    """Delete artifacts whose time is over; answers (workspace_id, sha256) of each: bytes that may be unused now."""
    rows = tx.all(_EXPIRED, {"now": tx.now, "limit": limit})
    if rows:
        tx.executemany(_DELETE, [{"workspace_id": row[0], "artifact_id": row[1]} for row in rows])
    return [(row[0], row[2]) for row in rows]


def bytes_kept(tx: ReadTransaction, workspace_id: str) -> int:
    """How many bytes the artifacts of a workspace have together; from an index alone."""
    row = tx.one(_BYTES, {"workspace_id": workspace_id})
    return int(row[0] or 0) if row else 0


def read_artifact(tx: ReadTransaction, workspace_id: str, artifact_id: str) -> Artifact:
    """Raises NotFound."""
    row = tx.one(_BY_ID, {"workspace_id": workspace_id, "artifact_id": artifact_id, "now": tx.now})
    if row is None:
        raise NotFound.of("artifact", artifact_id)
    return Artifact(*row)


class StoredArtifacts:
    """Artifacts in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def artifact(self, workspace_id: str, artifact_id: str) -> Artifact:
        return await self._reader.look(lambda tx: read_artifact(tx, workspace_id, artifact_id))

    async def page(
        self, workspace_id: str, which: ArtifactFilter, after: tuple[int, str], limit: int
    ) -> list[Artifact]:
        params = values(which, workspace_id=workspace_id, create_time=after[0], artifact_id=after[1], limit=limit)
        rows = await self._reader.run(lambda tx: tx.all(_PAGE, {**params, "now": tx.now}))
        return [Artifact(*row) for row in rows]

    async def of_run(self, workspace_id: str, run_id: str, limit: int) -> list[Artifact]:
        params: dict[str, SqlValue] = {"workspace_id": workspace_id, "run_id": run_id, "limit": limit}
        rows = await self._reader.run(lambda tx: tx.all(_OF_RUN, {**params, "now": tx.now}))
        return [Artifact(*row) for row in rows]

    async def blob_in_use(self, workspace_id: str, sha256: str) -> bool:
        params = {"workspace_id": workspace_id, "sha256": sha256}
        row = await self._reader.run(lambda tx: tx.one(IN_USE, params))
        return row is not None and bool(row[0])
