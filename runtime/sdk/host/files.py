"""`host.artifacts` for files of the conversation, `host.files` for those of the configuration and of knowledge."""

from collections.abc import AsyncIterable, AsyncIterator

from portway.runtime.sdk.session.calls import Calls
from portway.runtime.sdk.types.content import ArtifactRef
from portway.runtime.sdk.types.convert import read, write
from portway.v1 import run_pull_pb2 as pb

# One call reads this much, so that a slow reader never has more than this waiting for it.
RANGE_BYTES = 4 * 1024 * 1024
PIECE_BYTES = 512 * 1024


class Artifacts:
    """Files of the conversation. Needs `artifacts.*`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def get(self, artifact_id: str) -> ArtifactRef:
        message = pb.RunnerServiceGetArtifactRequest(artifact_id=artifact_id)
        return read(ArtifactRef, (await self._calls.ask("get_artifact", message)).artifact)

    async def open(self, artifact_id: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `offset` on in pieces of at most 256 KiB; to the end if `length` is None."""
        size = (await self.get(artifact_id)).size
        end = size if length is None else min(size, offset + length)
        while offset < end:
            message = pb.RunnerServiceReadArtifactRequest(
                artifact_id=artifact_id, offset=offset, length=min(RANGE_BYTES, end - offset)
            )
            start = offset
            async for answer in self._calls.stream("read_artifact", message):
                offset += len(answer.data)
                yield answer.data
            if offset == start:
                return

    async def read(self, artifact_id: str) -> bytes:
        """The whole file in memory."""
        return b"".join([piece async for piece in self.open(artifact_id)])

    async def create(
        self, data: bytes | AsyncIterable[bytes], *, name: str = "", mime_type: str = "", summary: str = ""
    ) -> ArtifactRef:
        """Uploads a file. It reaches people with the next completed message that refers to it."""
        artifact = ArtifactRef(name=name, mime_type=mime_type, summary=summary)

        async def pieces() -> AsyncIterator[pb.RunnerServiceCreateArtifactRequest]:
            first = pb.RunnerServiceCreateArtifactRequest()
            write(artifact, first.artifact)
            yield first
            async for piece in _cut(data):
                yield pb.RunnerServiceCreateArtifactRequest(data=piece)

        return read(ArtifactRef, (await self._calls.upload("create_artifact", pieces())).artifact)


class Files:
    """Files among the run's resources. Needs `files.*`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def get(self, file_id: str) -> ArtifactRef:
        return read(ArtifactRef, (await self._calls.ask("get_file", pb.GetFileRequest(file_id=file_id))).file)

    async def read(self, file_id: str, *, offset: int = 0, length: int = RANGE_BYTES) -> bytes:
        """At most 10 MiB from `offset` on."""
        message = pb.RunnerServiceReadFileRequest(file_id=file_id, offset=offset, length=length)
        return b"".join([answer.data async for answer in self._calls.stream("read_file", message)])


async def _cut(data: bytes | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(data, bytes):
        for start in range(0, len(data), PIECE_BYTES):
            yield data[start : start + PIECE_BYTES]
        return
    async for block in data:
        for start in range(0, len(block), PIECE_BYTES):
            yield block[start : start + PIECE_BYTES]
