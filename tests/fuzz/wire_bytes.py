"""Bytes that are no message, or one that its sender did not mean."""

from random import Random

_LARGE = 5 << 20


def tag(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def mutated(random: Random, raw: bytes) -> bytes:
    """`raw` with something done to it that a parser has to notice or to live with."""
    at = random.randrange(len(raw) + 1)
    number = random.choice((1, 2, 3, 5, 15, 16, 1000, (1 << 29) - 1))
    match random.randint(0, 13):
        case 0:
            return raw[:at]
        case 1 if raw:
            flipped = bytearray(raw)
            flipped[at % len(raw)] ^= 1 << random.randint(0, 7)
            return bytes(flipped)
        case 2:
            return raw[:at] + random.randbytes(random.randint(1, 16)) + raw[at:]
        case 3:
            # A number that has no end, or more bits than numbers have.
            return raw + tag(number, 0) + b"\xff" * random.choice((5, 10, 11, 30)) + random.choice((b"", b"\x01"))
        case 4:
            return raw + tag(number, 2) + varint(random.choice((1, 1 << 20, 1 << 31, 1 << 63))) + b"x"
        case 5:
            return raw + tag(number, 3) + raw + tag(number, 4)
        case 6:
            return raw + tag(number, 3) * random.choice((1, 99, 200, 5000))
        case 7:
            return raw + tag(number, 4)
        case 8:
            return raw + tag(number, random.choice((0, 1, 5, 6, 7))) + b"\x01" * 8
        case 9:
            return raw + tag(random.randint(500, 5000), 2) + varint(5) + b"hello"
        case 10:
            return raw + tag(number, 2) + varint(3) + b"\xed\xa0\x80"
        case 11:
            return b"\x00" + raw
        case 12 if random.random() < 0.03:
            return raw + tag(19_000, 2) + varint(_LARGE) + b"\0" * _LARGE
        case _:
            return raw + raw
