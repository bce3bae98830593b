"""The whole output of a command, kept in a file of its session."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from portway.box.backends.types import FileAccess
from portway.box.files.operations import AtomicWrite
from portway.box.files.places import Place, find_place
from portway.box.files.session_files import FileThreads
from portway.box.sessions.live import OpenSession
from portway.rpc.errors import PortwayError


class OutputRecorder:
    """Takes output as it comes, both streams in their order of arrival; the file appears at the end.

    Where it cannot be kept, `failure` says why; the command goes on.
    """

    def __init__(self, threads: FileThreads, access: FileAccess, place: Place, file: AtomicWrite) -> None:
        self._threads = threads
        self._access = access
        self._place = place
        self._file = file
        self._turn = asyncio.Lock()
        self.failure = ""

    async def add(self, data: bytes) -> None:
        # The two outputs are read at the same time; the file takes one piece after the other.
        async with self._turn:
            await self._do(partial(self._file.write, data))

    async def finish(self) -> None:
        await self._do(partial(self._file.commit, ""))

    async def _do(self, work: Callable[[], object]) -> None:
        if self.failure:
            return
        try:
            await self._threads.run(self._access, self._place.path, work)
        except PortwayError as error:
            self.failure = error.message
            # The space is the session's again at once.
            await self.close()

    async def close(self) -> None:
        await self._threads.run(self._access, self._place.path, self._file.close)


@asynccontextmanager
async def record_to(threads: FileThreads, session: OpenSession, path: str) -> AsyncIterator[OutputRecorder | None]:
    """A recorder into `path` of the session, which leaves nothing behind unless it was finished; none for no path."""
    if not path:
        yield None
        return
    access = session.sandbox.files()
    place = find_place(access, session.spec.working_directory, path, writing=True)
    file = await threads.acquire(access, place.path, partial(AtomicWrite, place, 0), AtomicWrite.close)
    recorder = OutputRecorder(threads, access, place, file)
    try:
        yield recorder
    finally:
        await recorder.close()
