"""Files that the host keeps, as a client sees them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from portway.rpc.client_stream import half_close, send
from portway.rpc.status import errors_by_meaning
from portway.v1 import artifact_pb2, artifact_pb2_grpc

_FRAME_BYTES = 512 * 1024


class Artifacts:
    """Uploads and reads artifacts."""

    def __init__(self, stub: artifact_pb2_grpc.ArtifactServiceAsyncStub) -> None:
        self.stub = stub

    async def create(self, content: bytes, *, name: str, mime_type: str = "") -> artifact_pb2.Artifact:
        """Upload bytes; the artifact is whole and on disk when this returns."""
        with errors_by_meaning():
            call = self.stub.CreateArtifact()
            # A file that is refused is refused at once: then the rest is not sent, and the answer says why.
            for frame in _frames(content, name, mime_type):
                if not await send(call, frame):
                    break
            await half_close(call)
            answer = await call
        return answer.artifact

    async def read(self, artifact_id: str, *, offset: int = 0, length: int = 0) -> AsyncIterator[bytes]:
        """The bytes in pieces; `length` 0 reads to the end."""
        request = artifact_pb2.ReadArtifactRequest(artifact_id=artifact_id, offset=offset, length=length)
        with errors_by_meaning():
            async for piece in self.stub.ReadArtifact(request):
                yield piece.data


def _frames(content: bytes, name: str, mime_type: str) -> Iterator[artifact_pb2.CreateArtifactRequest]:
    start = artifact_pb2.CreateArtifactStart(name=name, mime_type=mime_type, size=len(content))
    yield artifact_pb2.CreateArtifactRequest(start=start)
    for offset in range(0, len(content), _FRAME_BYTES):
        yield artifact_pb2.CreateArtifactRequest(data=content[offset : offset + _FRAME_BYTES])
