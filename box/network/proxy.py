"""One connection to the proxy of a session with ALLOW_LIST: a tunnel, one plain request, or SOCKS5."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

from portway.box.network import http, socks
from portway.box.network.allow_list import AllowList
from portway.box.network.client_hello import BadHello, read_hello
from portway.box.network.dial import Dialer, Refused, Unreachable
from portway.box.network.http import BadRequest, ProxyRequest
from portway.box.network.inbox import BadBody, Inbox
from portway.box.network.names import BadName, Host, host_of, written
from portway.box.network.relay import PIECE, BytesCounted, drop, extend, relay, together

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Proxy:
    """Serves connections one at a time each. `refused` is told of what the rules were against. Seconds."""

    def __init__(
        self,
        allow: AllowList,
        dialer: Dialer,
        counted: BytesCounted,
        refused: Callable[[str], None],
        idle: float,
        head: float,
    ) -> None:
        self._allow = allow
        self._dialer = dialer
        self._counted = counted
        self._refused = refused
        self._idle = idle
        self._head = head

    async def serve(self, inner: socket.socket) -> None:
        """Until it is over. Does not close it."""
        inbox = Inbox(inner)
        try:
            async with asyncio.timeout(self._head):
                first = await inbox.exactly(1)
                inbox.give_back(first)
                head = None if first[0] == socks.VERSION else await inbox.until(b"\r\n\r\n", http.LONGEST_HEAD)
        except (TimeoutError, BadBody, OSError):
            return
        if first[0] == socks.VERSION:
            await self._serve_socks(inner, inbox)
        elif head is None:
            await self._say(
                inner, http.answer(431, "Request Header Fields Too Large", "the request's head is too long")
            )
        else:
            await self._serve_http(inner, inbox, head)

    async def _serve_http(self, inner: socket.socket, inbox: Inbox, head: bytes) -> None:
        try:
            request = http.read_request(head)
            outer = await self._reach(request.host, request.port)
        except BadRequest as error:
            return await self._say(inner, http.answer(400, "Bad Request", str(error)))
        except Refused as error:
            self._refused(str(error))
            return await self._say(inner, http.answer(403, "Forbidden", str(error)))
        except Unreachable as error:
            return await self._say(inner, http.answer(502, "Bad Gateway", str(error)))
        with outer:
            if request.is_tunnel:
                await self._tunnel(inner, inbox, outer, request.host, _ESTABLISHED)
            else:
                await self._exchange(inner, inbox, outer, request)

    async def _serve_socks(self, inner: socket.socket, inbox: Inbox) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._head):
                await loop.sock_sendall(inner, await socks.read_greeting(inbox))
                host, port = await socks.read_wish(inbox)
            outer = await self._reach(host, port)
        except (BadBody, TimeoutError, OSError):
            return
        except socks.SocksError as error:
            return await self._say(inner, socks.reply(error.code))
        except Refused as error:
            self._refused(str(error))
            return await self._say(inner, socks.reply(socks.NOT_ALLOWED))
        except Unreachable:
            return await self._say(inner, socks.reply(socks.UNREACHABLE))
        with outer:
            await self._tunnel(inner, inbox, outer, host, socks.reply(socks.GRANTED))

    async def _reach(self, host: Host, port: int) -> socket.socket:
        if not self._allow.permits(host, port):
            where = f"{written(host)}:{port}"
            raise Refused(f"{where} is not in the session's list; whoever makes the session can add {where!r} to it")
        return await self._dialer.dial(host, port)

    async def _tunnel(
        self, inner: socket.socket, inbox: Inbox, outer: socket.socket, host: Host, granted: bytes
    ) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(inner, granted)
            await relay(inner, outer, self._counted, self._idle, self._opening(inbox, host))
        except Refused as error:
            self._refused(str(error))
        except OSError:
            return

    async def _opening(self, inbox: Inbox, host: Host) -> bytes:
        """What the client sends first. Where that is TLS it must ask for the very name that the tunnel is for."""
        data = await inbox.some()
        try:
            async with asyncio.timeout(self._head):
                while (hello := read_hello(data)) is None and (more := await inbox.some() if data else b""):
                    data += more
        except BadHello as error:
            raise Refused(f"a tunnel to {host} began with TLS and went on otherwise: {error}") from None
        except TimeoutError:
            raise Refused(f"a tunnel to {host} began with half a message of TLS") from None
        if hello is None and data:
            raise Refused(f"a tunnel to {host} began with half a message of TLS")
        if hello is not None and hello.is_tls and isinstance(host, str) and not _is_name(hello.name, host):
            raise Refused(f"a tunnel to {host} was used to ask for the name {hello.name[:80]!r}")
        return data

    async def _exchange(self, inner: socket.socket, inbox: Inbox, outer: socket.socket, request: ProxyRequest) -> None:
        """One request and its answer. A second request on the same connection is never passed on."""
        with contextlib.suppress(TimeoutError, OSError, BadBody):
            async with asyncio.timeout(self._idle) as patience:
                await together(self._send(inbox, outer, request, patience), self._answer(inner, outer, patience))

    async def _send(self, inbox: Inbox, outer: socket.socket, request: ProxyRequest, patience: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        async for piece in _whole(request, inbox):
            await loop.sock_sendall(outer, piece)
            self._counted.add_sent(len(piece))
            extend(patience, self._idle)
        if await inbox.some():
            raise BadBody("a second request")

    async def _answer(self, inner: socket.socket, outer: socket.socket, patience: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(outer, PIECE):
            await loop.sock_sendall(inner, data)
            self._counted.add_received(len(data))
            extend(patience, self._idle)
        # Its end is the end of all: nothing that the client still sends has a reader.
        await drop(inner)
        raise ConnectionResetError

    async def _say(self, inner: socket.socket, text: bytes) -> None:
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(inner, text)
            await drop(inner)


async def _whole(request: ProxyRequest, inbox: Inbox) -> AsyncIterator[bytes]:
    yield request.head
    async for piece in inbox.chunks() if request.chunked else inbox.body(request.length):
        yield piece


def _is_name(said: str, host: str) -> bool:
    try:
        return host_of(said) == host
    except BadName:
        return False
