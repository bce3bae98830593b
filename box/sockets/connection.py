"""One connection of a program inside: bytes both ways, each only as far as the other side takes them."""

import asyncio
import contextlib
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

from portway.box.sockets.outbox import Outbox
from portway.box.sockets.types import Closed, Credit, Data, HalfClosed

# What the box holds at most for a program that does not read.
CREDIT_BYTES = 64 * 1024
PIECE_BYTES = 64 * 1024
# How long what was said before a close may take to be read.
LINGER_SECONDS = 30.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class _Reset(Exception):
    """The connection cannot go on. Its text says why."""


class Connection:
    """`run` is its whole life. The other methods are for the task that reads the owner's frames; they never wait."""

    def __init__(
        self, number: int, peer: socket.socket, outbox: Outbox, owner_credit: int, count: Callable[[int, int], None]
    ) -> None:
        self.number = number
        self._peer = peer
        self._outbox = outbox
        self._count = count
        # What may still be sent to the owner, and what the owner may still send here.
        self._may_send = owner_credit
        self._may_take = CREDIT_BYTES
        self._half_window = max(1, CREDIT_BYTES // 2)
        self._waiting = bytearray()
        self._no_more = False
        self._closing = False
        self._told = asyncio.Event()
        self._credited = asyncio.Event()
        self._over = asyncio.Event()
        self._end: Closed | None = None

    def give(self, data: bytes) -> None:
        """Bytes of the owner for the program."""
        if self._no_more:
            return self.reset("data came after the end of data")
        if len(data) > self._may_take:
            return self.reset("more data came than there was credit for")
        self._may_take -= len(data)
        self._waiting += data
        self._told.set()

    def half_close(self) -> None:
        self._no_more = True
        self._told.set()

    def close(self) -> None:
        """The owner wants no more; what it said before is still delivered."""
        self._no_more = self._closing = True
        self._told.set()

    def reset(self, reason: str = "") -> None:
        self._finish(Closed(self.number, reset=True, reason=reason))

    def _finish(self, end: Closed) -> None:
        self._end = self._end or end
        self._over.set()

    def credit(self, size: int) -> None:
        # Nobody needs more than a few windows; a number that grows without end would be a bug of the owner.
        self._may_send = min(self._may_send + size, 1 << 30)
        self._credited.set()

    async def run(self) -> None:
        """Until both directions have ended; tells the owner so. Cancelled, it resets the connection."""
        reset = True
        try:
            ended = await self._relay()
            reset = ended.reset
        finally:
            self._shut(reset=reset)
        await self._outbox.put(lambda: ended)

    async def _relay(self) -> Closed:
        reading = asyncio.ensure_future(self._from_program())
        writing = asyncio.ensure_future(self._to_program())
        both = asyncio.gather(reading, writing)
        over = asyncio.ensure_future(self._over.wait())
        waiting: list[asyncio.Future[Any]] = [both, over]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if both.done() and self._end is None:
                both.result()
        except (OSError, _Reset) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            return Closed(self.number, reset=True, reason=reason or "")
        finally:
            for task in (over, reading, writing):
                task.cancel()
            await asyncio.gather(*waiting, reading, writing, return_exceptions=True)
        return self._end or Closed(self.number)

    async def _from_program(self) -> None:
        while not self._closing:
            while self._may_send <= 0:
                self._credited.clear()
                await self._credited.wait()
            await self._readable()
            ended = False

            def take() -> Data | HalfClosed | None:
                nonlocal ended
                with contextlib.suppress(BlockingIOError):
                    data = self._peer.recv(min(PIECE_BYTES, self._may_send))
                    self._may_send -= len(data)
                    self._count(len(data), 0)
                    ended = not data
                    return Data(self.number, data) if data else HalfClosed(self.number)
                return None

            await self._outbox.put(take)
            if ended:
                if self._hung_up():
                    raise _Reset("the program is gone")
                return

    async def _to_program(self) -> None:
        loop, taken = asyncio.get_running_loop(), 0
        while True:
            while self._waiting:
                data, self._waiting = self._waiting, bytearray()
                async with asyncio.timeout(LINGER_SECONDS if self._closing else None):
                    await loop.sock_sendall(self._peer, data)
                self._count(0, len(data))
                taken += len(data)
                if taken >= self._half_window:
                    given, taken = taken, 0
                    self._may_take += given
                    await self._outbox.put(lambda size=given: Credit(self.number, size))  # type: ignore[misc]
            if self._no_more:
                break
            self._told.clear()
            await self._told.wait()
        with contextlib.suppress(OSError):
            self._peer.shutdown(socket.SHUT_WR)
        if self._closing:
            self._finish(Closed(self.number))

    async def _readable(self) -> None:
        """Until something, or the end, can be read: it is read only when there is room for it."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        descriptor = self._peer.fileno()
        loop.add_reader(descriptor, _wake, ready)
        try:
            await ready
        finally:
            loop.remove_reader(descriptor)

    def _hung_up(self) -> bool:
        """Whether the other end of a path is gone, and not only silent. On a port the two look the same."""
        poll = select.poll()
        poll.register(self._peer, 0)
        return any(event & select.POLLHUP for _descriptor, event in poll.poll(0))

    def _shut(self, *, reset: bool) -> None:
        if reset and self._peer.family != socket.AF_UNIX:
            with contextlib.suppress(OSError):
                self._peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._peer.close()


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
