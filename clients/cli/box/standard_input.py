"""What this program is given on its standard input, without a thread that would outlive the command."""

import asyncio
import os
from collections.abc import AsyncIterator

_READ_BYTES = 64 * 1024
_WAITING = 16


class InputReader:
    """Reads a descriptor piece by piece while the block runs; not faster than `pieces` are taken."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(_WAITING)
        self._watching = False

    def __enter__(self) -> "InputReader":
        self._watch()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._unwatch()

    async def next(self) -> bytes:
        """The next piece, empty at the end."""
        piece = await self._pieces.get()
        self._watch()
        return piece

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            asyncio.get_running_loop().add_reader(self._descriptor, self._read)

    def _unwatch(self) -> None:
        if self._watching:
            self._watching = False
            asyncio.get_running_loop().remove_reader(self._descriptor)

    def _read(self) -> None:
        try:
            piece = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            # A terminal that was hung up has no more input.
            piece = b""
        self._pieces.put_nowait(piece)
        if self._pieces.full() or not piece:
            self._unwatch()


async def pieces(descriptor: int) -> AsyncIterator[bytes]:
    """All of it, piece by piece, to its end."""
    try:
        with InputReader(descriptor) as reader:
            while piece := await reader.next():
                yield piece
    except PermissionError:
        # A plain file is always ready, and cannot be waited for.
        while piece := os.read(descriptor, _READ_BYTES):
            yield piece
