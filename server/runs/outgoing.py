"""What the host says to a run: packed into as few messages as there is time for, a cancel before everything else."""

import asyncio
from collections import deque
from collections.abc import Callable

from portway.rpc.errors import Unavailable
from portway.server.runs.frames import repeated
from portway.server.runtimes.stream import RunStream
from portway.v1 import run_agent_pb2

MAX_FRAMES = 64
MAX_BYTES = 256 * 1024
ROOM_BYTES = 1024 * 1024

_FRAMES_FIELD = 1


class Outgoing:
    """A queue of frames and the one task that writes them."""

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def put(self, frame: run_agent_pb2.RunInputFrame) -> None:
        """Queue a frame behind the others."""
        self._keep(frame.SerializeToString(), self._frames.append)

    def put_first(self, frame: run_agent_pb2.RunInputFrame) -> None:
        """Queue a frame before everything that was not written yet."""
        self._keep(frame.SerializeToString(), self._frames.appendleft)

    async def room(self) -> None:
        """Wait while the runner reads too slowly: for whoever produces answers without end."""
        await self._room.wait()

    async def write_to(self, stream: RunStream) -> None:
        """Write until cancelled, or until the stream has ended: the one that reads it knows why."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._frames:
                try:
                    await stream.write(repeated(_FRAMES_FIELD, self._pack()))
                except Unavailable:
                    return

    def _keep(self, raw: bytes, keep: Callable[[bytes], None]) -> None:
        keep(raw)
        self._bytes += len(raw)
        if self._bytes > ROOM_BYTES:
            self._room.clear()
        self._wake.set()

    def _pack(self) -> list[bytes]:
        packed: list[bytes] = []
        size = 0
        while self._frames and len(packed) < MAX_FRAMES:
            frame = self._frames[0]
            if packed and size + len(frame) > MAX_BYTES:
                break
            packed.append(self._frames.popleft())
            size += len(frame)
        self._bytes -= size
        if self._bytes <= ROOM_BYTES:
            self._room.set()
        return packed
