"""Names for sessions with the mode ON: questions are passed to the machine's nameservers, one by one and checked."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from portway.box.network.names import port_of, split_port

PORT = 53
_HEADER = struct.Struct(">HHHHHH")
_ANSWER, _OPERATION, _TRUNCATED = 0x8000, 0x7800, 0x0200
# Whole zones: a nameserver that trusts this machine may give them to it.
_TRANSFERS = frozenset({251, 252})
_LONGEST_QUESTION, _LONGEST_ANSWER = 512, 65_535
_SECONDS, _MOST_AT_ONCE, _MOST_IN_A_ROW = 4.0, 64, 100

Server = tuple[str, int]


def servers_of(settings: Sequence[str], file: Path = Path("/etc/resolv.conf")) -> tuple[Server, ...]:
    """The nameservers to ask: those of the settings, or the machine's."""
    if settings:
        return tuple(_server(text) for text in settings)
    found = []
    with contextlib.suppress(OSError):
        for line in file.read_text(errors="replace").splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver" and "%" not in words[1]:
                found.append((words[1], PORT))
    return tuple(found[:3])


def _server(text: str) -> Server:
    if text.count(":") > 1 and not text.startswith("["):
        return text, PORT
    name, port = split_port(text)
    return name.strip("[]"), port_of(port) if port else PORT


def is_question(message: bytes) -> bool:
    """Whether it asks for records of one name: no update, no transfer, nothing that is more than a question."""
    if not _HEADER.size < len(message) <= _LONGEST_QUESTION:
        return False
    _identity, flags, questions, answers, authorities, _more = _HEADER.unpack_from(message)
    if flags & (_ANSWER | _OPERATION | _TRUNCATED) or (questions, answers, authorities) != (1, 0, 0):
        return False
    at = _HEADER.size
    while at < len(message) and 0 < message[at] < 64:
        at += 1 + message[at]
    if at + 5 > len(message) or message[at] != 0:
        return False
    (kind,) = struct.unpack_from(">H", message, at + 1)
    return kind not in _TRANSFERS


class Forwarder:
    """Answers questions of one session."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = tuple(servers)
        self._under_way: set[asyncio.Task[None]] = set()

    async def serve_datagrams(self, listener: socket.socket) -> None:
        """Until cancelled. Questions beyond those that can be under way are dropped, as networks do."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                message, sender = await loop.sock_recvfrom(listener, _LONGEST_QUESTION + 1)
                if is_question(message) and len(self._under_way) < _MOST_AT_ONCE:
                    task = asyncio.ensure_future(self._answer(listener, message, sender))
                    self._under_way.add(task)
                    task.add_done_callback(self._under_way.discard)
        finally:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _answer(self, listener: socket.socket, message: bytes, sender: object) -> None:
        with contextlib.suppress(OSError):
            said = await self._ask(message, socket.SOCK_DGRAM)
            await asyncio.get_running_loop().sock_sendto(listener, said, sender)  # type: ignore[arg-type]

    async def serve_connection(self, connection: socket.socket) -> None:
        """Questions over TCP, one after the other."""
        with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
            for _ in range(_MOST_IN_A_ROW):
                async with asyncio.timeout(_SECONDS * 2):
                    message = await _framed(connection)
                    if not is_question(message):
                        return
                    said = await self._ask(message, socket.SOCK_STREAM)
                    loop = asyncio.get_running_loop()
                    await loop.sock_sendall(connection, len(said).to_bytes(2) + said)

    async def _ask(self, message: bytes, kind: int) -> bytes:
        """The first answer to come, asking one server after the other. One that fails all over is told as such."""
        for server in self._servers:
            with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
                async with asyncio.timeout(_SECONDS / len(self._servers)):
                    return await _ask_one(server, message, kind)
        return _failed(message)


async def _ask_one(server: Server, message: bytes, kind: int) -> bytes:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as asking:
        await loop.sock_connect(asking, server)
        if kind == socket.SOCK_STREAM:
            await loop.sock_sendall(asking, len(message).to_bytes(2) + message)
            return await _framed(asking)
        await loop.sock_sendall(asking, message)
        while True:
            said = await loop.sock_recv(asking, _LONGEST_ANSWER)
            if said[:2] == message[:2]:
                return said


def _failed(message: bytes) -> bytes:
    """The question as its own answer: the nameserver could not be asked."""
    identity, flags, *_rest = _HEADER.unpack_from(message)
    return _HEADER.pack(identity, flags | _ANSWER | 0x0082, 1, 0, 0, 0) + _question(message)


def _question(message: bytes) -> bytes:
    at = _HEADER.size
    while message[at]:
        at += 1 + message[at]
    return message[_HEADER.size : at + 5]


async def _framed(connection: socket.socket) -> bytes:
    size = int.from_bytes(await _exactly(connection, 2))
    return await _exactly(connection, size)


async def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = await asyncio.get_running_loop().sock_recv(connection, count - len(data))
        if not more:
            raise asyncio.IncompleteReadError(data, count)
        data += more
    return data
