"""Artifacts of a run's scope: what its conversation has, and what it makes itself."""

from collections.abc import AsyncIterator, Callable

from portway.rpc.errors import InvalidInput, NotFound, NotPermitted, OutOfRange
from portway.rpc.ids import new_id
from portway.server.artifacts.keeper import ByteQuota
from portway.server.artifacts.store import Artifacts, add_artifact
from portway.server.artifacts.types import Artifact, NewArtifact
from portway.server.artifacts.wire import artifact_ref
from portway.server.runner_calls.emit import Emit
from portway.server.runner_calls.paying import pay_bytes
from portway.server.runner_calls.scope import RunScope
from portway.server.runs.attempts import check_fence
from portway.server.storage_engine.blobs import Blobs
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.transaction import Transaction
from portway.v1 import content_pb2, run_pull_pb2

DEFAULT_RANGE = 64 * 1024
PIECE_BYTES = 256 * 1024
MAX_UPLOAD_BYTES = 256 * 1024 * 1024
FALLBACK_TYPE = "application/octet-stream"


class ArtifactRules:
    """Which artifacts one run reaches, and what it may make. Shared by its calls and its results."""

    def __init__(self, run: RunScope, artifacts: Artifacts, blobs: Blobs, reader: Reader, quotas: ByteQuota) -> None:
        self._reader = reader
        self._quotas = quotas
        self._run = run
        self._artifacts = artifacts
        self._blobs = blobs

    async def known(self, artifact_id: str) -> content_pb2.ArtifactRef:
        """Raises NotFound."""
        return artifact_ref(await self.reach(artifact_id, "ArtifactCreated"))

    async def reach(self, artifact_id: str, action: str) -> Artifact:
        """An artifact of the run, of its event or of its conversation; any other one does not exist for it."""
        run = self._run
        try:
            artifact = await self._artifacts.artifact(run.workspace_id, artifact_id)
        except NotFound:
            raise run.missing(action, "artifact", artifact_id) from None
        own = artifact.run_id == run.run_id or artifact.event_id == run.event_id
        if not own and artifact.conversation_id != run.conversation_id:
            raise run.missing(action, "artifact", artifact_id)
        return artifact

    async def inline(
        self, wanted: content_pb2.ArtifactRef, content: bytes
    ) -> tuple[content_pb2.ArtifactRef, Callable[[Transaction], None]]:
        """Bytes that came with a result: kept now, listed by the returned unit. Raises NotPermitted, InvalidInput."""
        if "artifacts_write" not in self._run.snapshot.permissions.allowed:
            raise NotPermitted("an artifact needs the permission artifacts.write, which this run does not have")
        workspace_id = self._run.workspace_id
        if self._quotas.limits_bytes(workspace_id):
            # Not in the unit that keeps it: the result that it came with is written there too.
            await self._reader.run(lambda tx: self._quotas.admit_bytes(tx, workspace_id, len(content)))
        await pay_bytes(self._run, len(content))
        blob = await self._blobs.put(workspace_id, content)
        artifact = self.new(wanted, blob.size, blob.sha256)
        return artifact_ref(artifact), lambda tx: add_artifact(tx, artifact)

    def keep(self, tx: Transaction, artifact: NewArtifact) -> None:
        """In the unit that makes it. Raises LimitExceeded (QUOTA_EXCEEDED)."""
        self._quotas.admit_bytes(tx, artifact.workspace_id, artifact.size)
        add_artifact(tx, artifact)

    def new(self, wanted: content_pb2.ArtifactRef, size: int, sha256: str) -> NewArtifact:
        run = self._run
        if wanted.sha256 and wanted.sha256 != sha256:
            raise InvalidInput.field("artifact.sha256", "the bytes have another digest")
        if wanted.size and wanted.size != size:
            raise InvalidInput.field("artifact.size", f"the bytes are {size}")
        return NewArtifact(
            workspace_id=run.workspace_id,
            artifact_id=new_id("art"),
            name=wanted.name.rpartition("/")[2] or "file",
            mime_type=wanted.mime_type or FALLBACK_TYPE,
            kind=(wanted.mime_type or FALLBACK_TYPE).partition("/")[0],
            size=size,
            sha256=sha256,
            summary=wanted.summary,
            event_id=run.event_id,
            run_id=run.run_id,
            conversation_id=run.conversation_id,
            creator=run.snapshot.runner.runner_id,
            expire_time=wanted.expire_time.ToMicroseconds() if wanted.HasField("expire_time") else 0,
        )


class ArtifactCalls:
    """GetArtifact, ReadArtifact, CreateArtifact."""

    def __init__(self, database: Database, artifacts: Artifacts, blobs: Blobs, quotas: ByteQuota) -> None:
        self._database = database
        self._quotas = quotas
        self._artifacts = artifacts
        self._blobs = blobs

    def rules(self, run: RunScope) -> ArtifactRules:
        return ArtifactRules(run, self._artifacts, self._blobs, self._database.reader, self._quotas)

    async def get_artifact(
        self, run: RunScope, request: run_pull_pb2.RunnerServiceGetArtifactRequest
    ) -> run_pull_pb2.RunnerServiceGetArtifactResponse:
        run.allow("artifacts_metadata", "GetArtifact")
        artifact = await self.rules(run).reach(request.artifact_id, "GetArtifact")
        return run_pull_pb2.RunnerServiceGetArtifactResponse(artifact=artifact_ref(artifact))

    async def read_artifact(
        self, run: RunScope, request: run_pull_pb2.RunnerServiceReadArtifactRequest, emit: Emit
    ) -> None:
        run.allow("artifacts_read", "ReadArtifact")
        artifact = await self.rules(run).reach(request.artifact_id, "ReadArtifact")
        if request.offset > artifact.size:
            raise OutOfRange(f"the artifact {artifact.artifact_id} has {artifact.size} bytes, not {request.offset}")
        length = min(request.length or DEFAULT_RANGE, artifact.size - request.offset)
        offset, end = request.offset, request.offset + length
        while offset < end:
            piece = await self._blobs.read(run.workspace_id, artifact.sha256, offset, min(PIECE_BYTES, end - offset))
            offset += len(piece)
            await emit(run_pull_pb2.RunnerServiceReadArtifactResponse(data=piece), offset >= end)

    async def create_artifact(
        self, run: RunScope, requests: AsyncIterator[run_pull_pb2.RunnerServiceCreateArtifactRequest]
    ) -> run_pull_pb2.RunnerServiceCreateArtifactResponse:
        run.allow("artifacts_write", "CreateArtifact")
        first: content_pb2.ArtifactRef | None = None
        async with self._blobs.upload(run.workspace_id, MAX_UPLOAD_BYTES, run.run_id) as upload:
            async for request in requests:
                if first is None:
                    if not request.HasField("artifact"):
                        raise InvalidInput.field("artifact", "the first frame describes the artifact")
                    first = request.artifact
                # Paid piece by piece: a file larger than what is left is not taken to its end.
                await pay_bytes(run, len(request.data))
                await upload.write(request.data)
            if first is None:
                raise InvalidInput.field("artifact", "the call had no frame")
            blob = await upload.finish()
        rules = self.rules(run)
        artifact = rules.new(first, blob.size, blob.sha256)

        def unit(tx: Transaction) -> None:
            check_fence(tx, run.fence)
            rules.keep(tx, artifact)

        await self._database.writer.run(unit)
        return run_pull_pb2.RunnerServiceCreateArtifactResponse(artifact=artifact_ref(artifact))
