"""Netlink, as far as the box needs it: messages, attributes, and answers that are errors with the kernel's reason."""

import os
import socket
import struct
from collections.abc import Iterator

REQUEST, ACK, DUMP = 0x01, 0x04, 0x300
CREATE, APPEND, EXCLUSIVE = 0x400, 0x800, 0x200
_ERROR, _DONE = 2, 3
_NESTED = 0x8000
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_RECEIVE_BYTES = 256 * 1024


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def attribute(kind: int, data: bytes) -> bytes:
    return _padded(_ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode("ascii") + b"\0")


def message(kind: int, flags: int, body: bytes, sequence: int = 1) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, REQUEST | flags, sequence, 0) + _padded(body)


def attributes(data: bytes) -> dict[int, bytes]:
    """Of the attributes of a message, the last one of each kind."""
    found: dict[int, bytes] = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            break
        found[kind & ~_NESTED] = data[_ATTRIBUTE.size : length]
        data = data[length + -length % 4 :]
    return found


class Netlink:
    """One socket to one part of the kernel, in the network namespace that this thread is in when it is made."""

    def __init__(self, family: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)

    def __enter__(self) -> "Netlink":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, kind: int, flags: int, body: bytes) -> bytes:
        """The body of the first answer. Raises `OSError` with the kernel's reason."""
        self._socket.send(message(kind, flags, body))
        for answer, content in self._received():
            if answer not in (_ERROR, _DONE):
                return content
            _raise(content)
        return b""

    def list(self, kind: int, body: bytes) -> list[bytes]:
        """The bodies of all answers to a question for everything of a kind."""
        self._socket.send(message(kind, DUMP, body))
        found: list[bytes] = []
        while True:
            for answer, content in self._received():
                if answer == _DONE:
                    return found
                if answer == _ERROR:
                    _raise(content)
                found.append(content)

    def order(self, *messages: bytes) -> None:
        """Sends messages, of which each one of number `n` (from 1) that asks for it is confirmed."""
        self._socket.send(b"".join(messages))

    def confirm(self, count: int) -> None:
        """Waits for so many confirmations. Raises `OSError` for the first that is none."""
        while count > 0:
            for answer, content in self._received():
                if answer == _ERROR:
                    _raise(content)
                    count -= 1

    def _received(self) -> Iterator[tuple[int, bytes]]:
        data = self._socket.recv(_RECEIVE_BYTES)
        while len(data) >= _HEADER.size:
            length, kind, _flags, _sequence, _port = _HEADER.unpack_from(data)
            yield kind, data[_HEADER.size : length]
            data = data[length + -length % 4 :]


def _raise(content: bytes) -> None:
    (number,) = struct.unpack_from("=i", content)
    if number < 0:
        raise OSError(-number, os.strerror(-number))
