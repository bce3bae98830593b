"""Files of this machine as tar archives for a box, and archives of a box as files of this machine.

Both stream: what is packed is read as fast as it is sent, what arrives is written as it comes.
"""

from __future__ import annotations

import asyncio
import os
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

_PIECE_BYTES = 256 * 1024


async def pack(path: Path, name: str = "") -> AsyncIterator[bytes]:
    """A file, under `name` or its own one, or what is in a directory, with names relative to it.

    Raises OSError for what cannot be read. Sockets, pipes and devices are left out.
    """
    reading, writing = os.pipe()
    packing = asyncio.create_task(asyncio.to_thread(_pack, path, name, writing))
    try:
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            while piece := await asyncio.to_thread(pipe.read, _PIECE_BYTES):
                yield piece
    finally:
        # Where nobody reads any more the thread ends by the broken pipe.
        await asyncio.wait([packing])
    packing.result()


def _pack(path: Path, name: str, writing: int) -> None:
    with os.fdopen(writing, "wb") as pipe, tarfile.open(fileobj=pipe, mode="w|", format=tarfile.GNU_FORMAT) as archive:
        if not path.is_dir():
            archive.add(path.resolve(), name or path.absolute().name, filter=_plain)
            return
        for entry in sorted(os.scandir(path), key=lambda one: one.name):
            archive.add(entry.path, entry.name, filter=_plain)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """A second name of a file is packed as the file; whose it is says nothing elsewhere."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member if member.isreg() or member.isdir() or member.issym() else None


@dataclass(frozen=True, slots=True)
class Taken:
    """What an archive left on this machine. `skipped` are names that would have led out of the directory."""

    files: int = 0
    skipped: tuple[str, ...] = field(default=())


async def unpack(archive: AsyncIterator[bytes], directory: Path) -> Taken:
    """Write an archive's files into a directory, which must exist. What leads out of it is not written.

    Raises OSError for what cannot be written, and what `archive` raises.
    """
    reading, writing = os.pipe()
    unpacking = asyncio.create_task(asyncio.to_thread(_unpack, reading, directory))
    with os.fdopen(writing, "wb", buffering=0) as pipe:
        try:
            async for piece in archive:
                await asyncio.to_thread(_write, pipe.fileno(), piece)
        except BrokenPipeError:
            pass  # the thread says why it ended
        except BaseException:
            pipe.close()
            # What is half there ends in the middle of an archive: that error is nobody's news.
            await asyncio.wait([unpacking])
            unpacking.exception()
            raise
    return await unpacking


def _write(pipe: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(pipe, view) :]


def _unpack(reading: int, directory: Path) -> Taken:
    files, skipped = 0, []
    with os.fdopen(reading, "rb") as pipe, tarfile.open(fileobj=pipe, mode="r|") as archive:
        for member in archive:
            try:
                archive.extract(member, directory, filter="data")
            except tarfile.FilterError:
                skipped.append(member.name)
            else:
                files += member.isreg()
        while pipe.read(_PIECE_BYTES):
            pass  # the padding after its end
    return Taken(files, tuple(skipped))
