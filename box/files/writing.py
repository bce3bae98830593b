"""A file written as it arrives, from the event loop."""

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from portway.box.backends.types import FileAccess
from portway.box.files.failures import meaning_of
from portway.box.files.operations import AtomicWrite, make_parents
from portway.box.files.places import Place
from portway.box.files.session_files import FileThreads
from portway.box.files.types import FileInfo
from portway.box.tasks import to_its_end


class FileWriting:
    """Only after `finish` is the file there; before, and when anything fails, everything is as it was."""

    def __init__(self, threads: FileThreads, access: FileAccess, place: Place, most: int) -> None:
        """`most` bytes: where a workspace is a plain directory, no file system says that it is full."""
        self._threads = threads
        self._access = access
        self._place = place
        self._file: AtomicWrite | None = None
        self._room = most

    @asynccontextmanager
    async def begun(self, *, mode: int, make_parents: bool) -> AsyncIterator[None]:
        work = partial(_begin, self._place, mode, make_parents)
        self._file = file = await self._threads.acquire(self._access, self._place.path, work, AtomicWrite.close)
        try:
            yield
        finally:
            # Whole, also for a call that is cancelled again meanwhile: otherwise the piece would stay.
            await to_its_end(self._threads.run(self._access, self._place.path, file.close))

    async def add(self, data: bytes) -> None:
        self._room -= len(data)
        if self._room < 0:
            raise meaning_of(errno.EDQUOT, self._place.path)
        await self._threads.run(self._access, self._place.path, partial(self._begun().write, data))

    async def finish(self, expected_sha256: str) -> tuple[FileInfo, str]:
        return await self._threads.run(self._access, self._place.path, partial(self._begun().commit, expected_sha256))

    def _begun(self) -> AtomicWrite:
        if self._file is None:
            raise RuntimeError("the write was not begun")
        return self._file


def _begin(place: Place, mode: int, with_parents: bool) -> AtomicWrite:
    if with_parents:
        make_parents(place)
    return AtomicWrite(place, mode)
