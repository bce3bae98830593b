"""What answers connections from inside: protocols, or coroutines over a reader and a writer."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import structlog

from portway.clients.sockets.transport import CREDIT_BYTES
from portway.rpc.errors import PortwayError

Protocols = Callable[[], asyncio.Protocol]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def handling(handler: Handler | Protocols) -> AsyncIterator[Protocols]:
    """Makes protocols of a handler; what handlers still do when the block is left is cancelled."""
    if not inspect.signature(handler).parameters:
        yield cast(Protocols, handler)
        return
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(_handle(cast(Handler, handler), reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    try:
        yield lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(), connected)
    finally:
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _handle(handler: Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A handler that breaks resets its connection, and no other."""
    try:
        await handler(reader, writer)
    except (OSError, EOFError, PortwayError) as error:
        writer.transport.abort()
        structlog.get_logger().debug("a connection from a session broke", error=str(error))
    except asyncio.CancelledError:
        writer.transport.abort()
        raise
    except Exception as error:  # noqa: BLE001 - a supervisor of handlers
        writer.transport.abort()
        structlog.get_logger().error("the handler of a session's socket broke", exc_info=error)
    finally:
        writer.close()


async def relay(one: Streams, other: Streams) -> None:
    """Joins two connections, both ways and no faster than each side takes it, until both directions have ended."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_pass_on(one[0], other[1]))
            group.create_task(_pass_on(other[0], one[1]))
    finally:
        for _reader, writer in (one, other):
            writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CREDIT_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
