"""GetFile and ReadFile: files that the agent's policy gives to each of its runs. Their ids are those of artifacts."""

from portway.rpc.errors import NotFound, NotPermitted, OutOfRange
from portway.server.artifacts.store import Artifacts
from portway.server.artifacts.types import Artifact
from portway.server.artifacts.wire import artifact_ref
from portway.server.runner_calls.artifacts import DEFAULT_RANGE, PIECE_BYTES
from portway.server.runner_calls.emit import Emit
from portway.server.runner_calls.scope import RunScope
from portway.server.storage_engine.blobs import Blobs
from portway.v1 import run_pull_pb2 as pb


class FileCalls:
    """Whoever keeps knowledge bases will give further files under `files_knowledge`."""

    def __init__(self, artifacts: Artifacts, blobs: Blobs) -> None:
        self._artifacts = artifacts
        self._blobs = blobs

    async def get_file(self, run: RunScope, request: pb.GetFileRequest) -> pb.GetFileResponse:
        return pb.GetFileResponse(file=artifact_ref(await self._reach(run, request.file_id, "GetFile")))

    async def read_file(self, run: RunScope, request: pb.RunnerServiceReadFileRequest, emit: Emit) -> None:
        file = await self._reach(run, request.file_id, "ReadFile")
        if request.offset > file.size:
            raise OutOfRange(f"the file {file.artifact_id} has {file.size} bytes, not {request.offset}")
        offset = request.offset
        end = offset + min(request.length or DEFAULT_RANGE, file.size - offset)
        while offset < end:
            piece = await self._blobs.read(run.workspace_id, file.sha256, offset, min(PIECE_BYTES, end - offset))
            offset += len(piece)
            await emit(pb.RunnerServiceReadFileResponse(data=piece), offset >= end)

    async def _reach(self, run: RunScope, file_id: str, action: str) -> Artifact:
        run.check_alive()
        if not run.snapshot.permissions.allowed & {"files_config", "files_knowledge"}:
            run.refuse(action, "files", "not granted")
            raise NotPermitted(f"{action} needs the permission files.config or files.knowledge")
        if "files_config" not in run.snapshot.permissions.allowed or file_id not in _granted(run):
            raise run.missing(action, "file", file_id)
        try:
            return await self._artifacts.artifact(run.workspace_id, file_id)
        except NotFound:
            raise run.missing(action, "file", file_id) from None


def _granted(run: RunScope) -> tuple[str, ...]:
    return run.snapshot.spec.resource_policy.file_ids
