"""Taking files in and giving them out: the bytes first, then the row that makes them an artifact."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from portway.rpc.errors import DataLoss, InvalidInput, OutOfRange, PayloadTooLarge, Quota
from portway.rpc.identity import Caller
from portway.rpc.ids import new_id
from portway.server.artifacts.mime import HEAD_BYTES, checked_type
from portway.server.artifacts.store import Artifacts, add_artifact, read_artifact, remove_artifact
from portway.server.artifacts.types import Artifact, NewArtifact
from portway.server.audit.store import append_audit
from portway.server.audit.types import NewAuditRecord
from portway.server.storage_engine.blobs import Blob, Blobs, BlobWriter
from portway.server.storage_engine.clock import SECOND
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.transaction import ReadTransaction, Transaction

LIMIT = 20 * 1024 * 1024
UNUSED_SECONDS = 86_400.0
READ_BYTES = 1024 * 1024
_KINDS = ("image", "audio", "video")
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the sender says of a file; '' and 0 where it says nothing."""

    name: str = ""
    mime_type: str = ""
    size: int = 0
    sha256: str = ""
    ttl_seconds: float = 0.0


class ByteQuota(Protocol):
    """What a workspace may keep."""

    def limits_bytes(self, workspace_id: str) -> bool:
        """Whether anybody has to count."""

    def admit_bytes(self, tx: ReadTransaction, workspace_id: str, size: int) -> None:
        """Raises LimitExceeded (QUOTA_EXCEEDED)."""


class ArtifactKeeper:
    """Files of a workspace. `Reaper` drops what nobody keeps."""

    def __init__(
        self, database: Database, artifacts: Artifacts, blobs: Blobs, quotas: ByteQuota, limit: int = LIMIT
    ) -> None:
        """`limit`: bytes that one file may have."""
        self._quotas = quotas
        self._database = database
        self._artifacts = artifacts
        self._blobs = blobs
        self._limit = limit

    async def create(self, caller: Caller, wanted: Wanted, pieces: AsyncIterator[bytes]) -> Artifact:
        """The artifact, whole and on disk.

        Raises InvalidInput (type, digest or size that does not match), PayloadTooLarge, LimitExceeded (disk, quota).
        """
        self._database.ensure_room()
        limit = self._limit
        if wanted.size > limit:
            raise _too_large(caller, limit, f"has {wanted.size / _MIB:.1f} MiB")
        async with self._blobs.upload(caller.workspace_id, limit) as upload:
            head = await _receive(caller, upload, pieces, limit)
            mime_type = checked_type(wanted.mime_type, head)
            blob = await upload.finish()
        _check(wanted, blob)
        artifact_id = new_id("art")

        def unit(tx: Transaction) -> Artifact:
            self._quotas.admit_bytes(tx, caller.workspace_id, blob.size)
            # A message that refers to it keeps it.
            expire_time = tx.now + round((wanted.ttl_seconds or UNUSED_SECONDS) * SECOND)
            add_artifact(tx, _new_artifact(caller, artifact_id, wanted, blob, mime_type, expire_time))
            return read_artifact(tx, caller.workspace_id, artifact_id)

        return await self._database.writer.run(unit)

    async def find(self, workspace_id: str, artifact_id: str) -> Artifact:
        """Raises NotFound."""
        return await self._artifacts.artifact(workspace_id, artifact_id)

    async def read(self, artifact: Artifact, offset: int, length: int) -> AsyncIterator[bytes]:
        """The range in large pieces; `length` 0: to the end. Raises OutOfRange."""
        end = offset + length if length else artifact.size
        if offset > artifact.size or end > artifact.size:
            raise OutOfRange(
                f"The artifact {artifact.artifact_id} has {artifact.size} bytes: no range goes from {offset} to {end}."
            )
        while offset < end:
            size = min(READ_BYTES, end - offset)
            piece = await self._blobs.read(artifact.workspace_id, artifact.sha256, offset, size)
            if not piece:
                raise DataLoss(
                    f"The artifact {artifact.artifact_id} ends at {offset}, before its {artifact.size} bytes."
                )
            yield piece
            offset += len(piece)

    async def delete(self, caller: Caller, artifact_id: str) -> None:
        """Raises NotFound. Its bytes go when nothing else refers to them."""

        def unit(tx: Transaction) -> Artifact:
            artifact = read_artifact(tx, caller.workspace_id, artifact_id)
            remove_artifact(tx, caller.workspace_id, artifact_id)
            append_audit(tx, [_record(caller, artifact_id)])
            return artifact

        artifact = await self._database.writer.run(unit)
        if not await self._artifacts.blob_in_use(artifact.workspace_id, artifact.sha256):
            await self._blobs.remove(artifact.workspace_id, artifact.sha256)


async def _receive(caller: Caller, upload: BlobWriter, pieces: AsyncIterator[bytes], limit: int) -> bytes:
    """Writes the pieces; answers the first bytes."""
    head = bytearray()
    async for piece in pieces:
        if upload.size + len(piece) > limit:
            raise _too_large(caller, limit, "is larger")
        if len(head) < HEAD_BYTES:
            head += piece[: HEAD_BYTES - len(head)]
        await upload.write(piece)
    return bytes(head)


def _too_large(caller: Caller, limit: int, said: str) -> PayloadTooLarge:
    allowed = f"{limit // _MIB} MiB"
    return PayloadTooLarge(
        f"The file {said}; a file may have {allowed} at most. Send a smaller one, or put it where the agent can fetch "
        "it and send the address.",
        quota=Quota(caller.role.name.lower(), f"{allowed} a file"),
        facts={"limit_bytes": str(limit)},
    )


def _check(wanted: Wanted, blob: Blob) -> None:
    if wanted.size and wanted.size != blob.size:
        raise InvalidInput.field("start.size", f"says {wanted.size} bytes, and {blob.size} came; send the file again")
    if wanted.sha256 and wanted.sha256.lower() != blob.sha256:
        raise InvalidInput.field("start.sha256", "is not the digest of the bytes that came; send the file again")


def _new_artifact(
    caller: Caller, artifact_id: str, wanted: Wanted, blob: Blob, mime_type: str, expire_time: int
) -> NewArtifact:
    kind = mime_type.partition("/")[0]
    return NewArtifact(
        workspace_id=caller.workspace_id,
        artifact_id=artifact_id,
        name=_file_name(wanted.name),
        mime_type=mime_type,
        kind=kind if kind in _KINDS else "file",
        size=blob.size,
        sha256=blob.sha256,
        creator=caller.token_id,
        expire_time=expire_time,
    )


def _file_name(name: str) -> str:
    """Without any folder and without what would end a line."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(character for character in last if character.isprintable()).strip(". ") or "file"


def _record(caller: Caller, artifact_id: str) -> NewAuditRecord:
    return NewAuditRecord(
        workspace_id=caller.workspace_id,
        action="artifact.delete",
        resource=artifact_id,
        allowed=True,
        role=caller.role.name.lower(),
        subject=caller.subject,
        token_id=caller.token_id,
        peer=caller.peer,
    )
