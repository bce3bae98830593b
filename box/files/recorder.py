"""The whole output of a command, kept in a file of its session."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from portway.box.backends.types import FileAccess
from portway.box.files.operations import AtomicWrite
from portway.box.files.places import Place, find_place
from portway.box.files.session_files import FileThreads
from portway.box.sessions.live import OpenSession


class OutputRecorder:
    """Takes output as it comes, both streams in their order of arrival; the file appears at the end."""

    def __init__(self, threads: FileThreads, access: FileAccess, place: Place, file: AtomicWrite) -> None:
        self._threads = threads
        self._access = access
        self._place = place
        self._file = file
        self._turn = asyncio.Lock()

    async def add(self, data: bytes) -> None:
        # The two outputs are read at the same time; the file takes one piece after the other.
        async with self._turn:
            await self._threads.run(self._access, self._place.path, partial(self._file.write, data))

    async def finish(self) -> None:
        await self._threads.run(self._access, self._place.path, partial(self._file.commit, ""))

    async def close(self) -> None:
        await self._threads.run(self._access, self._place.path, self._file.close)


@asynccontextmanager
async def record_to(threads: FileThreads, session: OpenSession, path: str) -> AsyncIterator[OutputRecorder | None]:
    """A recorder into `path` of the session; none for an empty path."""
    if not path:
        yield None
        return
    access = session.sandbox.files()
    place = find_place(access, session.spec.working_directory, path, writing=True)
    file = await threads.acquire(access, place.path, partial(AtomicWrite, place, 0), AtomicWrite.close)
    recorder = OutputRecorder(threads, access, place, file)
    try:
        yield recorder
        await recorder.finish()
    finally:
        await recorder.close()
