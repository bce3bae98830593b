"""The name that a client of TLS asks for in its first message, read without taking part."""

import struct
from dataclasses import dataclass

LONGEST = 32 * 1024
# A client that cuts its first message into more wants to keep the reader busy: it is read again with each piece.
_MOST_RECORDS = 256
_HANDSHAKE, _CLIENT_HELLO = 0x16, 1
_RECORD, _SERVER_NAME, _HOST_NAME = 5, 0, 0


class BadHello(ValueError):
    """It begins as TLS and is none that can be read."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a connection begins with. `name` is empty where it asks for none."""

    is_tls: bool
    name: str = ""


def read_hello(data: bytes) -> Hello | None:
    """What the first bytes of a connection say; `None` while there are too few of them. Raises `BadHello`."""
    if not data:
        return None
    if data[0] != _HANDSHAKE:
        return Hello(is_tls=False)
    message = _handshake(data)
    if message is None:
        if len(data) >= LONGEST:
            raise BadHello("the first message of TLS is too long")
        return None
    try:
        return Hello(is_tls=True, name=_server_name(message))
    except (struct.error, IndexError, UnicodeDecodeError):
        raise BadHello("the first message of TLS cannot be read") from None


def _handshake(data: bytes) -> bytes | None:
    """The content of the first handshake message, from as many records as it is spread over."""
    message = b""
    records = 0
    while len(data) >= _RECORD:
        records += 1
        if records > _MOST_RECORDS:
            raise BadHello("the first message of TLS is in too many pieces")
        kind, major, _minor, length = struct.unpack_from(">BBBH", data)
        if kind != _HANDSHAKE or major != 3 or not 0 < length <= 2**14 + 256:
            raise BadHello("what follows the beginning of TLS is none")
        message += data[_RECORD : _RECORD + length]
        data = data[_RECORD + length :]
        if message and message[0] != _CLIENT_HELLO:
            raise BadHello("the first message of TLS is not that of a client")
        if len(message) >= 4:
            wanted = 4 + int.from_bytes(message[1:4])
            if wanted > LONGEST:
                raise BadHello("the first message of TLS is too long")
            if len(message) >= wanted:
                return message[4:wanted]
    return None


def _server_name(hello: bytes) -> str:
    at = 34  # version, random
    at += 1 + hello[at]
    at += 2 + struct.unpack_from(">H", hello, at)[0]
    at += 1 + hello[at]
    if at == len(hello):
        return ""
    (size,) = struct.unpack_from(">H", hello, at)
    at, end = at + 2, at + 2 + size
    if end != len(hello):
        raise struct.error("the extensions do not fill the message")
    names: list[str] = []
    while at < end:
        kind, size = struct.unpack_from(">HH", hello, at)
        at += 4
        if at + size > end:
            raise struct.error("an extension ends behind the message")
        if kind == _SERVER_NAME:
            names.append(_first_name(hello[at : at + size]))
        at += size
    if len(names) > 1:
        raise struct.error("two server names")
    return names[0] if names else ""


def _first_name(extension: bytes) -> str:
    length, kind, size = struct.unpack_from(">HBH", extension)
    if length + 2 != len(extension) or kind != _HOST_NAME or size + 3 != length:
        raise struct.error("not exactly one host name")
    return extension[5 : 5 + size].decode("ascii")
