"""What a client of the proxy sends, piece by piece and never more than was asked for."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator

from portway.box.network.relay import PIECE

_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e]*)?")
_LONGEST_LINE = 1024


class BadBody(ValueError):
    """A body whose parts do not fit together."""


class Inbox:
    """Reads from a connection, with what was read too far kept."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._kept = b""

    async def some(self) -> bytes:
        """The next bytes; empty at the end."""
        kept, self._kept = self._kept, b""
        return kept or await asyncio.get_running_loop().sock_recv(self._connection, PIECE)

    def give_back(self, data: bytes) -> None:
        """Has `data` read again."""
        self._kept = data + self._kept

    async def until(self, mark: bytes, limit: int) -> bytes | None:
        """Everything before `mark`, which is taken too; `None` where it does not come within `limit` bytes."""
        data = b""
        while mark not in data:
            if len(data) > limit or not (more := await self.some()):
                self._kept = data
                return None
            data += more
        found, _, self._kept = data.partition(mark)
        return found if len(found) <= limit else None

    async def exactly(self, count: int) -> bytes:
        """So many bytes. Raises `BadBody` where the end comes first."""
        data = b""
        while len(data) < count:
            if not (more := await self.some()):
                raise BadBody("ended early")
            data += more
        data, self._kept = data[:count], data[count:]
        return data

    async def body(self, length: int) -> AsyncIterator[bytes]:
        while length > 0:
            data = await self.some()
            if not data:
                raise BadBody("ended early")
            data, self._kept = data[:length], data[length:]
            length -= len(data)
            yield data

    async def chunks(self) -> AsyncIterator[bytes]:
        """The chunks of a body, said anew; extensions and trailers are left out."""
        while True:
            line = await self.until(b"\r\n", _LONGEST_LINE)
            found = _CHUNK_SIZE.fullmatch(line) if line is not None else None
            if found is None:
                raise BadBody("not a chunk")
            size = int(found[1], 16)
            if size == 0:
                break
            yield b"%x\r\n" % size
            async for piece in self.body(size):
                yield piece
            if await self.exactly(2) != b"\r\n":
                raise BadBody("a chunk is longer than it says")
            yield b"\r\n"
        for _ in range(100):
            line = await self.until(b"\r\n", _LONGEST_LINE)
            if line is None:
                raise BadBody("trailers that do not end")
            if not line:
                yield b"0\r\n\r\n"
                return
        raise BadBody("too many trailers")
