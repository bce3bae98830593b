"""Archives in and out of a session, from the event loop: one piece at a time, so that a slow end holds the other up."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from portway.box.backends.types import FileAccess
from portway.box.files.pack import Packed, Packing
from portway.box.files.places import Place
from portway.box.files.session_files import FileThreads
from portway.box.files.unpack import Unpacked, Unpacking
from portway.box.sessions.live import OpenSession


class Upload:
    """An archive that arrives."""

    def __init__(self, threads: FileThreads, access: FileAccess, path: str, unpacking: Unpacking) -> None:
        self._threads = threads
        self._access = access
        self._path = path
        self._unpacking = unpacking

    async def add(self, data: bytes) -> None:
        await self._threads.run(self._access, self._path, partial(self._unpacking.feed, data))

    async def finish(self) -> Unpacked:
        return await self._threads.run(self._access, self._path, self._unpacking.commit)


class Download:
    """An archive that leaves."""

    def __init__(self, threads: FileThreads, access: FileAccess, path: str, packing: Packing) -> None:
        self._threads = threads
        self._access = access
        self._path = path
        self._packing = packing

    @property
    def packed(self) -> Packed:
        return self._packing.packed

    async def next(self) -> bytes:
        return await self._threads.run(self._access, self._path, self._packing.next)


@asynccontextmanager
async def unpacking(
    threads: FileThreads, session: OpenSession, place: Place, *, with_parents: bool
) -> AsyncIterator[Upload]:
    """When the block is left without `finish`, everything is as it was."""
    access = session.sandbox.files()
    work = partial(Unpacking, place, session.spec.disk_bytes, with_parents=with_parents)
    under_way = await threads.acquire(access, place.path, work, Unpacking.close)
    try:
        yield Upload(threads, access, place.path, under_way)
    finally:
        await threads.run(access, place.path, under_way.close)


@asynccontextmanager
async def packing(threads: FileThreads, session: OpenSession, place: Place) -> AsyncIterator[Download]:
    access = session.sandbox.files()
    under_way = await threads.acquire(access, place.path, partial(Packing, place), Packing.close)
    try:
        yield Download(threads, access, place.path, under_way)
    finally:
        await threads.run(access, place.path, under_way.close)
