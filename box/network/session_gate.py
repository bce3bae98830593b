"""The way out of one session: what it connects to is accepted here, judged and carried on, within bounds."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from ipaddress import ip_address
from typing import Any

from portway.box.network.allow_list import AllowList
from portway.box.network.dial import Dialer, Refused, Unreachable
from portway.box.network.dns import Forwarder
from portway.box.network.policy import NetworkUsage
from portway.box.network.proxy import Proxy
from portway.box.network.relay import BytesCounted, relay

_MOST_TOLD = 20
_SHORT_OF_DESCRIPTORS_SECONDS = 0.1
_RESET = struct.pack("ii", 1, 0)

Serve = Callable[[socket.socket], Awaitable[None]]


class SessionGate:
    """Serves the listening sockets of one session until `close`.

    `tell` gets the first refusals in words; all are counted. `places` bounds the connections of all sessions together.
    """

    def __init__(
        self,
        dialer: Dialer,
        places: asyncio.Semaphore,
        connections: int,
        idle: float,
        head: float,
        tell: Callable[[str], None],
    ) -> None:
        self._dialer = dialer
        self._places = places
        self._own_places = asyncio.Semaphore(connections)
        self._idle = idle
        self._head = head
        self._tell = tell
        self._counted = BytesCounted()
        self._connection_count = 0
        self._refused_count = 0
        self._told: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[socket.socket] = []

    def serve_proxy(self, listener: socket.socket, allow: AllowList) -> None:
        """Takes what is asked of a proxy."""
        proxy = Proxy(allow, self._dialer, self._counted, self._refuse, self._idle, self._head)
        self._listen(listener, proxy.serve)

    def serve_steered(self, listener: socket.socket) -> None:
        """Takes connections that were meant for the address that they arrive with."""
        self._listen(listener, self._carry_on)

    def serve_names(self, datagrams: socket.socket, listener: socket.socket, forwarder: Forwarder) -> None:
        """Answers questions for names."""
        self._listeners.append(datagrams)
        self._start(forwarder.serve_datagrams(datagrams))
        self._listen(listener, forwarder.serve_connection)

    def usage(self) -> NetworkUsage:
        counted = self._counted
        return NetworkUsage(counted.sent, counted.received, self._connection_count, self._refused_count)

    async def close(self) -> None:
        """Ends all connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()

    def _listen(self, listener: socket.socket, serve: Serve) -> None:
        self._listeners.append(listener)
        self._start(self._accept(listener, serve))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket, serve: Serve) -> None:
        """Beyond the bounds nothing is accepted: the session's own connections wait in the kernel, which has few."""
        loop = asyncio.get_running_loop()
        while True:
            await self._own_places.acquire()
            await self._places.acquire()
            try:
                connection, _address = await loop.sock_accept(listener)
            except OSError:
                self._give_back()
                await asyncio.sleep(_SHORT_OF_DESCRIPTORS_SECONDS)
                continue
            except BaseException:
                self._give_back()
                raise
            self._start(self._serve_one(connection, serve))

    def _give_back(self) -> None:
        self._places.release()
        self._own_places.release()

    async def _serve_one(self, connection: socket.socket, serve: Serve) -> None:
        self._connection_count += 1
        try:
            with connection, contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await serve(connection)
        finally:
            self._give_back()

    async def _carry_on(self, inner: socket.socket) -> None:
        host, port = inner.getsockname()[:2]
        try:
            outer = await self._dialer.dial(ip_address(host), port)
        except (Refused, Unreachable) as error:
            if isinstance(error, Refused):
                self._refuse(str(error))
            # The session's side is connected already: only a reset tells that there is nobody.
            inner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            return
        with outer:
            await relay(inner, outer, self._counted, self._idle)

    def _refuse(self, text: str) -> None:
        self._refused_count += 1
        if len(self._told) < _MOST_TOLD and text not in self._told:
            self._told.add(text)
            self._tell(text)
