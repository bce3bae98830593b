"""Waiting for something that others change, on one event loop."""

import asyncio
from collections.abc import Callable


class Bell:
    """Rung after each change; who waits looks again. Ringing never waits, so it can be done anywhere."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, true_now: Callable[[], bool]) -> None:
        while not true_now():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(waiter)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)
