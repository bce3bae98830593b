"""Frames on their way to the owner: few at a time, in order, written by one task that nobody cancels in the middle."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from portway.box.sockets.types import ToOwner

# With the longest frame, what a socket whose owner does not read holds in memory.
MOST_FRAMES = 4


class Outbox:
    """Bounded by frames. Who has something to say makes it once there is room: until then it stays where it is."""

    def __init__(self, write: Callable[[ToOwner], Awaitable[None]]) -> None:
        self._write = write
        self._room = asyncio.Semaphore(MOST_FRAMES)
        self._waiting: deque[ToOwner] = deque()
        self._arrived = asyncio.Event()

    async def put(self, make: Callable[[], ToOwner | None]) -> bool:
        """Waits for room, then sends what `make` gives; `False` where it gave nothing."""
        await self._room.acquire()
        try:
            frame = make()
        except BaseException:
            self._room.release()
            raise
        if frame is None:
            self._room.release()
            return False
        self._waiting.append(frame)
        self._arrived.set()
        return True

    async def pump(self) -> None:
        """Writes until it is cancelled, or the owner is gone."""
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            await self._write(self._waiting.popleft())
            self._room.release()
