"""Packs frames into messages: at most 64 frames, 256 KiB (or one frame) and 2 ms of waiting, and never more bytes than
the other side gave credit for."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

MAX_FRAMES = 64
MAX_BYTES = 256 * 1024
MAX_WAIT = 0.002


def frame_header(length: int) -> bytes:
    """Tag and length of an entry in `repeated … frames = 1`."""
    header = bytearray(b"\x0a")
    while length > 0x7F:
        header.append(length & 0x7F | 0x80)
        length >>= 7
    header.append(length)
    return bytes(header)


_SHORT_HEADERS = tuple(frame_header(length) for length in range(1024))


class Outbox:
    """Frames on their way, in order. One task runs `pump`; whoever puts frames waits for `room` while it is `full`."""

    def __init__(self, write: Callable[[bytes], Awaitable[None]], credit: int) -> None:
        """`credit` is in bytes; 0 is no limit."""
        self._write = write
        self._credit: float = credit or float("inf")
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._in_a_hurry = False
        self._closed = False
        self._last_flush = 0.0
        self._something = asyncio.Event()
        self._hurry = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self.full = False

    def put(self, frame: bytes, *, urgent: bool = False) -> None:
        """Adds a frame; an urgent one is not held back for others to join it."""
        length = len(frame)
        header = _SHORT_HEADERS[length] if length < 1024 else frame_header(length)
        self._frames.append(header + frame)
        self._bytes += length + len(header)
        if urgent or len(self._frames) >= MAX_FRAMES or self._bytes >= MAX_BYTES:
            self._in_a_hurry = True
            self._hurry.set()
            if len(self._frames) >= 2 * MAX_FRAMES or self._bytes >= 2 * MAX_BYTES:
                self.full = True
                self._room.clear()
        self._something.set()

    async def room(self) -> None:
        """Returns when there is room again: back pressure from the host reaches the runner here."""
        await self._room.wait()

    def add_credit(self, more: int) -> None:
        self._credit += more
        self._something.set()

    def close(self) -> None:
        """Nothing follows: `pump` ends when everything is sent."""
        self._closed = True
        self._hurry.set()
        self._something.set()

    async def pump(self) -> None:
        while await self._something_to_send():
            await self._gather()
            await self._write(self._take())
            self._last_flush = time.monotonic()

    async def _something_to_send(self) -> bool:
        while not self._frames or self._credit <= 0:
            if self._closed and not self._frames:
                return False
            self._something.clear()
            await self._something.wait()
        return True

    async def _gather(self) -> None:
        """Lets more frames join, where the last message went out only just now."""
        left = self._last_flush + MAX_WAIT - time.monotonic()
        if self._in_a_hurry or self._closed or left <= 0:
            return
        try:
            async with asyncio.timeout(left):
                await self._hurry.wait()
        except TimeoutError:
            return

    def _take(self) -> bytes:
        taken = [self._frames.popleft()]
        size = len(taken[0])
        while self._frames and len(taken) < MAX_FRAMES and size + len(self._frames[0]) <= MAX_BYTES:
            size += len(self._frames[0])
            taken.append(self._frames.popleft())
        self._bytes -= size
        self._credit -= size
        if not self._frames:
            self._in_a_hurry = False
            if not self._closed:
                self._hurry.clear()
        if self.full and len(self._frames) < MAX_FRAMES and self._bytes < MAX_BYTES:
            self.full = False
            self._room.set()
        return b"".join(taken)
