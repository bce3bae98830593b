"""Bytes between two connections: as fast as the slower side takes them, each half closed by itself, counted."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from typing import Any

PIECE = 64 * 1024


class BytesCounted:
    """What went through, in bytes. `sent` left the session."""

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0

    def add_sent(self, count: int) -> None:
        self.sent += count

    def add_received(self, count: int) -> None:
        self.received += count


async def relay(
    inner: socket.socket,
    outer: socket.socket,
    counted: BytesCounted,
    idle: float,
    opening: Coroutine[Any, Any, bytes] | None = None,
) -> None:
    """Until both have said all, one broke, or nothing moved for `idle` seconds. Closes neither.

    `opening` gives what goes out first, and what it raises ends the relay. The other direction does not wait for it.
    """
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(idle) as patience:
            await together(
                _pump(inner, outer, counted.add_sent, patience, idle, opening),
                _pump(outer, inner, counted.add_received, patience, idle),
            )


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """All of them; the first that breaks ends the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(
    source: socket.socket,
    sink: socket.socket,
    count: Callable[[int], None],
    patience: asyncio.Timeout,
    idle: float,
    opening: Coroutine[Any, Any, bytes] | None = None,
) -> None:
    loop = asyncio.get_running_loop()
    data = await opening if opening is not None else await loop.sock_recv(source, PIECE)
    while data:
        extend(patience, idle)
        await loop.sock_sendall(sink, data)
        count(len(data))
        extend(patience, idle)
        data = await loop.sock_recv(source, PIECE)
    sink.shutdown(socket.SHUT_WR)


def extend(patience: asyncio.Timeout, idle: float) -> None:
    """Something moved."""
    if not patience.expired():
        patience.reschedule(asyncio.get_running_loop().time() + idle)


async def drop(connection: socket.socket, patience: float = 1.0) -> None:
    """Ends a connection so that what was sent last arrives: unread input would turn the end into a reset."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(TimeoutError, OSError):
        connection.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(patience):
            left = PIECE
            while left > 0 and (data := await loop.sock_recv(connection, left)):
                left -= len(data)
