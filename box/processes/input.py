"""The input of something whose callers come and go: what was taken once is given to it in order, exactly once."""

import asyncio
from collections.abc import Callable

from portway.box.backends.interface import RunningCommand
from portway.box.tasks import TaskOwner
from portway.rpc.errors import OutOfRange


class SharedInput:
    """One frame at a time is under way; it goes on when its sender vanishes, because it counts as taken."""

    def __init__(self) -> None:
        self.taken = 0
        self._turn = asyncio.Lock()
        self._under_way: asyncio.Task[None] | None = None
        self._tasks = TaskOwner("input of commands")

    async def write(
        self, data: bytes, offset: int | None, running: RunningCommand, wanted: Callable[[], bool] = lambda: True
    ) -> None:
        """With `offset`, what was taken already is left out. Raises `OutOfRange` where it would leave a gap.

        `wanted` is asked when its turn has come: whether its sender may still give input.
        """
        async with self._turn:
            await self._settled()
            if not wanted():
                return
            if offset is not None and offset > self.taken:
                raise OutOfRange(f"input from byte {offset} leaves a gap: {self.taken} bytes were taken")
            if offset is not None:
                data = data[self.taken - offset :]
            self.taken += len(data)
            self._under_way = self._tasks.start(running.write(data))
            await asyncio.shield(self._under_way)

    async def close(self, running: RunningCommand) -> None:
        """Ends the input, after what is under way."""
        async with self._turn:
            await self._settled()
            running.close_input()

    async def _settled(self) -> None:
        # A sender that vanished has left its frame behind.
        if self._under_way is not None and not self._under_way.done():
            await asyncio.wait([self._under_way])
