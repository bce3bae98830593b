"""File work on threads of its own, each piece done as the session's user."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from portway.box.backends.types import FileAccess
from portway.box.files.failures import told_about
from portway.box.isolation.syscalls import files_as
from portway.box.tasks import to_its_end
from portway.rpc.errors import PortwayError

T = TypeVar("T")
THREADS = 8
THREADS_EACH = 3


class FileThreads:
    """A few threads for work that the kernel may hold up."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, "box-files")
        self._turns: dict[int, tuple[asyncio.Semaphore, int]] = {}

    async def run(self, access: FileAccess, path: str, work: Callable[[], T]) -> T:
        """Runs `work` as the session's user; what the kernel refuses is told about `path`."""

        def as_owner() -> T:
            with told_about(path):
                if access.owner is None:
                    return work()
                with files_as(access.owner, access.owner):
                    return work()

        async with self._turn_of(access):
            return await asyncio.get_running_loop().run_in_executor(self._pool, as_owner)

    @asynccontextmanager
    async def _turn_of(self, access: FileAccess) -> AsyncIterator[None]:
        """One session never takes all threads: the descriptor of its workspace is what tells it from others."""
        key = access.mounts[0].directory
        turns, users = self._turns.get(key, (asyncio.Semaphore(THREADS_EACH), 0))
        self._turns[key] = turns, users + 1
        try:
            async with turns:
                yield
        finally:
            turns, users = self._turns[key]
            if users == 1:
                del self._turns[key]
            else:
                self._turns[key] = turns, users - 1

    async def acquire(self, access: FileAccess, path: str, work: Callable[[], T], release: Callable[[T], None]) -> T:
        """As `run`, for work that makes something: a caller that goes away meanwhile leaves nothing behind."""
        making = asyncio.ensure_future(self.run(access, path, work))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            await to_its_end(self._give_back(access, path, making, release))
            raise

    async def _give_back(
        self, access: FileAccess, path: str, making: "asyncio.Future[T]", release: Callable[[T], None]
    ) -> None:
        with contextlib.suppress(PortwayError):
            made = await making
            await self.run(access, path, partial(release, made))

    async def run_until_cancelled(self, access: FileAccess, path: str, work: Callable[[Callable[[], bool]], T]) -> T:
        """As `run`, for long work that asks again and again whether it should stop."""
        stop = threading.Event()
        try:
            return await self.run(access, path, lambda: work(stop.is_set))
        except asyncio.CancelledError:
            stop.set()
            raise

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
