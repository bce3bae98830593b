"""Messages put together from bytes that are serialized already: what many receivers get is serialized once."""

from collections.abc import Iterable

_LENGTH_DELIMITED = 2


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, payload: bytes) -> bytes:
    """A field that holds a message, a text or bytes."""
    return varint(number << 3 | _LENGTH_DELIMITED) + varint(len(payload)) + payload


def repeated(number: int, payloads: Iterable[bytes]) -> bytes:
    """A repeated field of messages."""
    tag = varint(number << 3 | _LENGTH_DELIMITED)
    pieces: list[bytes] = []
    for payload in payloads:
        pieces += (tag, varint(len(payload)), payload)
    return b"".join(pieces)
