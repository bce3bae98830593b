"""Bytes that are no message, or one that its sender did not mean."""

from collections.abc import Callable
from random import Random

_LARGE = 5 << 20
_LARGE_CHANCE = 0.03
_NUMBERS = (1, 2, 3, 5, 15, 16, 1000, (1 << 29) - 1)


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
    return random.choice(_MUTATIONS)(random, raw)


def _number(random: Random) -> int:
    return random.choice(_NUMBERS)


def _cut(random: Random, raw: bytes) -> bytes:
    return raw[: random.randrange(len(raw) + 1)]


def _flipped(random: Random, raw: bytes) -> bytes:
    changed = bytearray(raw or b"\0")
    changed[random.randrange(len(changed))] ^= 1 << random.randint(0, 7)
    return bytes(changed)


def _with_noise(random: Random, raw: bytes) -> bytes:
    at = random.randrange(len(raw) + 1)
    return raw[:at] + random.randbytes(random.randint(1, 16)) + raw[at:]


def _endless_number(random: Random, raw: bytes) -> bytes:
    """One without an end, or with more bits than numbers have."""
    return raw + tag(_number(random), 0) + b"\xff" * random.choice((5, 10, 11, 30)) + random.choice((b"", b"\x01"))


def _wrong_length(random: Random, raw: bytes) -> bytes:
    return raw + tag(_number(random), 2) + varint(random.choice((1, 1 << 20, 1 << 31, 1 << 63))) + b"x"


def _group(random: Random, raw: bytes) -> bytes:
    number = _number(random)
    return raw + tag(number, 3) + raw + tag(number, 4)


def _open_groups(random: Random, raw: bytes) -> bytes:
    return raw + tag(_number(random), 3) * random.choice((1, 99, 200, 5000))


def _closed_group(random: Random, raw: bytes) -> bytes:
    return raw + tag(_number(random), 4)


def _wrong_type(random: Random, raw: bytes) -> bytes:
    return raw + tag(_number(random), random.choice((0, 1, 5, 6, 7))) + b"\x01" * 8


def _unknown_field(random: Random, raw: bytes) -> bytes:
    return raw + tag(random.randint(500, 5000), 2) + varint(5) + b"hello"


def _half_a_pair(random: Random, raw: bytes) -> bytes:
    """Half of a surrogate pair where a text may be."""
    return raw + tag(_number(random), 2) + varint(3) + b"\xed\xa0\x80"


def _zero(_random: Random, raw: bytes) -> bytes:
    return b"\x00" + raw


def _twice(_random: Random, raw: bytes) -> bytes:
    return raw + raw


def _large(random: Random, raw: bytes) -> bytes:
    if random.random() > _LARGE_CHANCE:
        return raw + raw
    return raw + tag(19_000, 2) + varint(_LARGE) + b"\0" * _LARGE


_MUTATIONS: tuple[Callable[[Random, bytes], bytes], ...] = (
    _cut,
    _flipped,
    _with_noise,
    _endless_number,
    _wrong_length,
    _group,
    _open_groups,
    _closed_group,
    _wrong_type,
    _unknown_field,
    _half_a_pair,
    _zero,
    _twice,
    _large,
)
