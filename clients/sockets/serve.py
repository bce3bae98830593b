"""Serving a socket inside a session: the stream of its connections, each handed to a handler of asyncio."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from portway.clients.sockets.handling import Protocols
from portway.clients.sockets.transport import CREDIT_BYTES, RelayTransport
from portway.rpc.client_stream import send
from portway.rpc.errors import Unavailable
from portway.rpc.status import errors_by_meaning
from portway.v1 import socket_pb2 as pb
from portway.v1 import socket_pb2_grpc

# How long making the session's socket may take.
_LISTEN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class SocketPlace:
    """Where commands of the session find it."""

    path: str
    port: int


class ServedSocket:
    """A socket that is being served."""

    def __init__(self, place: SocketPlace, relaying: asyncio.Task[None]) -> None:
        self.place = place
        self._relaying = relaying

    async def ended(self) -> None:
        """Waits for its end, which is never good: raises `Stale` (a newer owner has the name), `NotFound` (the session
        was deleted), `Unavailable` (the box is away or stopping, or the sandbox was lost)."""
        await asyncio.shield(self._relaying)


@asynccontextmanager
async def serving(
    stub: socket_pb2_grpc.SocketServiceAsyncStub, listen: pb.SocketListen, protocols: Protocols
) -> AsyncIterator[ServedSocket]:
    """Serves while the block runs; leaving it resets what is still connected. Raises what the contract says."""
    listen.connection_credit = CREDIT_BYTES
    with errors_by_meaning():
        call = stub.ServeSocket()
        try:
            async with asyncio.timeout(_LISTEN_SECONDS):
                await send(call, pb.ServeSocketRequest(listen=listen))
                first = await _first(call)
        except BaseException:
            call.cancel()
            raise
    relay = _Relay(call, first.connection_credit, protocols)
    relaying = asyncio.ensure_future(relay.run())
    try:
        yield ServedSocket(SocketPlace(first.path, first.port), relaying)
    finally:
        relaying.cancel()
        await asyncio.gather(relaying, return_exceptions=True)


async def _first(call: Any) -> pb.SocketListening:
    async for frame in call:
        if frame.HasField("listening"):
            return frame.listening  # type: ignore[no-any-return]
    raise Unavailable("the box ended the socket before it was there", retry_after=0.5)


class _Relay:
    """One stream. What is read is handed on at once, what is written takes turns, connection by connection."""

    def __init__(self, call: Any, credit: int, protocols: Protocols) -> None:
        self._call = call
        self._credit = credit
        self._protocols = protocols
        self._connections: dict[int, RelayTransport] = {}
        self._ready: deque[int] = deque()
        self._queued: set[int] = set()
        self._something = asyncio.Event()

    async def run(self) -> None:
        writing = asyncio.ensure_future(self._write())
        try:
            with errors_by_meaning():
                async for frame in self._call:
                    self._take(frame)
            raise Unavailable("the box ended the socket without saying why", retry_after=0.5)
        finally:
            writing.cancel()
            self._call.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            for transport in list(self._connections.values()):
                transport.lost(ConnectionResetError("the socket is no longer served"))

    def _take(self, frame: pb.ServeSocketResponse) -> None:
        number = frame.connection_id
        kind = frame.WhichOneof("kind")
        if kind == "opened":
            return self._open(number)
        transport = self._connections.get(number)
        if transport is None:
            return
        match kind:
            case "data":
                transport.received(frame.data)
            case "credit":
                transport.credited(frame.credit)
            case "half_closed":
                transport.ended()
            case "closed":
                del self._connections[number]
                reset = ConnectionResetError(frame.closed.reason or "the program went away")
                transport.lost(reset if frame.closed.reset else None)

    def _open(self, number: int) -> None:
        protocol = self._protocols()
        transport = RelayTransport(number, protocol, self._credit, lambda: self._has_more(number))
        self._connections[number] = transport
        transport.begin()

    def _has_more(self, number: int) -> None:
        if number not in self._queued:
            self._queued.add(number)
            self._ready.append(number)
            self._something.set()

    async def _write(self) -> None:
        while True:
            while not self._ready:
                self._something.clear()
                await self._something.wait()
            number = self._ready.popleft()
            self._queued.discard(number)
            transport = self._connections.get(number)
            frame = transport.next_frame() if transport is not None else None
            if frame is None:
                continue
            self._has_more(number)
            if not await send(self._call, frame):
                return
