"""One run's stream to the runtime, in bytes: who reads it decides what the frames mean."""

from types import TracebackType
from typing import Any, Self

import grpc

from portway.rpc.client_stream import send
from portway.rpc.errors import Reason, Unavailable
from portway.rpc.status import error_from_rpc

GENERATION_HEADER = "portway-plugin-generation"


class RunStream:
    """One task reads and one task writes. Errors are raised by their meaning."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Without effect where the stream has ended; otherwise the runtime cancels the run.
        self._call.cancel()

    async def generation(self) -> str:
        """The generation of the plugin's process that runs it; '' where the runtime does not say."""
        try:
            metadata = await self._call.initial_metadata()
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error
        return next((str(value) for key, value in metadata or () if key == GENERATION_HEADER), "")

    async def read(self) -> bytes | None:
        """The next message; None at a good end. Raises what the runtime said instead."""
        try:
            raw = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error
        return None if raw is grpc.aio.EOF else raw

    async def write(self, raw: bytes) -> None:
        """Waits while the other side reads too slowly.

        Raises Unavailable once the stream has ended: the reader knows why.
        """
        if not await send(self._call, raw):
            raise Unavailable("the stream of the run has ended", reason=Reason.UNREACHABLE)
