"""Files that a program of this machine left in a folder: opened where they were found, without following a link."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import BinaryIO

from portway.runtime.harness.places import MadeFile

_PIECE = 256 * 1024
_MAX_LOOKED_AT = 10_000


@dataclass(frozen=True, slots=True)
class MachineFile:
    """Implements `MadeFile`. `file` is open since it was found, so that its name says nothing any more."""

    name: str
    file: BinaryIO

    async def read(self) -> AsyncIterator[bytes]:
        while piece := await asyncio.to_thread(self.file.read, _PIECE):
            yield piece


def plain_files(stack: ExitStack, directory: int, newer: int, most: int) -> Sequence[MadeFile]:
    """Those beneath an open directory, by name, at most so many, changed after `newer` (nanoseconds). The stack closes
    them."""
    found: list[MadeFile] = []
    for name, descriptor in _opened(directory):
        file = stack.enter_context(open(descriptor, "rb"))
        if os.fstat(descriptor).st_mtime_ns >= newer:
            found.append(MachineFile(name, file))
        if len(found) >= most:
            break
    return found


def _opened(directory: int) -> Iterator[tuple[str, int]]:
    looked_at = 0
    for folder, folders, names, at in os.fwalk(".", dir_fd=directory):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for name in sorted(names):
            looked_at += 1
            if looked_at > _MAX_LOOKED_AT:
                return
            if name.startswith("."):
                continue
            with suppress(OSError):
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                descriptor = os.open(name, flags, dir_fd=at)
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    yield os.path.normpath(os.path.join(folder, name)), descriptor
                else:
                    os.close(descriptor)
