"""ArtifactService on the wire."""

from collections.abc import AsyncIterator
from typing import Never

from portway.rpc.call import Call
from portway.rpc.errors import FieldViolation, InvalidInput, Reason
from portway.rpc.validation import check
from portway.server.artifacts.keeper import ArtifactKeeper, Wanted
from portway.server.artifacts.types import Artifact
from portway.v1 import artifact_pb2

FRAME_BYTES = 256 * 1024

Upload = Call[artifact_pb2.CreateArtifactRequest, Never]


class ArtifactServicer:
    def __init__(self, keeper: ArtifactKeeper) -> None:
        self._keeper = keeper

    async def CreateArtifact(self, call: Upload) -> artifact_pb2.CreateArtifactResponse:
        first = await call.read()
        if first is None or not first.HasField("start"):
            raise _unexpected("the first frame must be `start`")
        start = first.start
        wanted = Wanted(
            name=start.name,
            mime_type=start.mime_type,
            size=start.size,
            sha256=start.sha256,
            ttl_seconds=start.ttl.ToMilliseconds() / 1000,
        )
        artifact = await self._keeper.create(call.caller, wanted, _pieces(call))
        return artifact_pb2.CreateArtifactResponse(artifact=artifact_message(artifact))

    async def GetArtifact(
        self, request: artifact_pb2.GetArtifactRequest, call: Call[Never, Never]
    ) -> artifact_pb2.GetArtifactResponse:
        artifact = await self._keeper.find(call.caller.workspace_id, request.artifact_id)
        return artifact_pb2.GetArtifactResponse(artifact=artifact_message(artifact))

    async def ReadArtifact(
        self, request: artifact_pb2.ReadArtifactRequest, call: Call[None, artifact_pb2.ReadArtifactResponse]
    ) -> None:
        artifact = await self._keeper.find(call.caller.workspace_id, request.artifact_id)
        async for piece in self._keeper.read(artifact, request.offset, request.length):
            for begin in range(0, len(piece), FRAME_BYTES):
                await call.write(artifact_pb2.ReadArtifactResponse(data=piece[begin : begin + FRAME_BYTES]))

    async def DeleteArtifact(
        self, request: artifact_pb2.DeleteArtifactRequest, call: Call[Never, Never]
    ) -> artifact_pb2.DeleteArtifactResponse:
        await self._keeper.delete(call.caller, request.artifact_id)
        return artifact_pb2.DeleteArtifactResponse()


async def _pieces(call: Upload) -> AsyncIterator[bytes]:
    while (frame := await call.read()) is not None:
        if not frame.HasField("data"):
            raise _unexpected("after `start` only `data` may come")
        check(frame)
        yield frame.data


def artifact_message(artifact: Artifact) -> artifact_pb2.Artifact:
    """An artifact as callers see it: no path and no storage key."""
    message = artifact_pb2.Artifact(run_id=artifact.run_id, conversation_id=artifact.conversation_id)
    ref = message.ref
    ref.artifact_id = artifact.artifact_id
    ref.mime_type = artifact.mime_type
    ref.name = artifact.name
    ref.size = artifact.size
    ref.sha256 = artifact.sha256
    ref.summary = artifact.summary
    if artifact.expire_time:
        ref.expire_time.FromMicroseconds(artifact.expire_time)
    message.create_time.FromMicroseconds(artifact.create_time)
    return message


def _unexpected(description: str) -> InvalidInput:
    return InvalidInput(
        f"The upload is out of order: {description}.",
        reason=Reason.UNEXPECTED_FRAME,
        fields=[FieldViolation("kind", description)],
    )
