"""The blocks of a tar archive that say what follows: read strictly, and written in one form."""

import re
from dataclasses import dataclass
from enum import Enum

from portway.rpc.errors import InvalidInput

BLOCK = 512
ZEROS = bytes(BLOCK)
MAX_EXTENDED_BYTES = 64 * 1024
_MAX_SIZE = 1 << 50
_MAX_TIME = 1 << 40
_GNU, _POSIX = b"ustar  \0", b"ustar\0"
_TIME = re.compile(rb"(\d{1,12})(?:\.(\d{1,9})\d*)?")
_RECORD = re.compile(rb"([1-9]\d{0,5}) ")
_NAME_BYTES, _SIZE_DIGITS = 100, 11


class Kind(Enum):
    """What a header announces. The last ones say something about the entry after them."""

    FILE = b"0"
    DIRECTORY = b"5"
    LINK = b"2"
    EXTENDED = b"x"
    GLOBAL = b"g"
    LONG_NAME = b"L"
    LONG_TARGET = b"K"


_KINDS = {b"\0": Kind.FILE} | {kind.value: kind for kind in Kind}
_REFUSED = {b"1": "a hard link", b"3": "a device", b"4": "a device", b"6": "a pipe", b"S": "a sparse file"}


@dataclass(frozen=True, slots=True)
class Header:
    """One header as it stands, before what extended headers say about it. Seconds since the epoch."""

    kind: Kind
    name: bytes
    target: bytes
    size: int
    mode: int
    modify_time: int


@dataclass(frozen=True, slots=True)
class Extended:
    """What extended headers say instead of the header after them; `None` where they say nothing."""

    path: bytes | None = None
    target: bytes | None = None
    size: int | None = None
    modify_time_ns: int | None = None


def wrong(description: str) -> InvalidInput:
    return InvalidInput.field("data", f"the archive cannot be used: {description}")


def read_header(block: bytes) -> Header:
    """Raises `InvalidInput` for what is damaged, and for entries that are not taken."""
    if _number(block[148:156], "checksum") not in _checksums(block):
        raise wrong("it is no tar archive, or damaged (a header's checksum is wrong)")
    flag = block[156:157]
    name = _text(block[:100])
    kind = _KINDS.get(flag)
    if kind is None:
        what = _REFUSED.get(flag, f"an entry of kind {flag!r}")
        raise wrong(f"{shown(name)} is {what}, and only files, directories and symbolic links are taken")
    if block[257:263] == _POSIX and (prefix := _text(block[345:500])):
        name = prefix + b"/" + name
    return Header(
        kind=kind,
        name=name,
        target=_text(block[157:257]),
        size=_bounded_size(_number(block[124:136], "size")),
        mode=_number(block[100:108], "mode"),
        modify_time=_number(block[136:148], "time", negative=True),
    )


def shown(name: bytes) -> str:
    """A name of a stranger in a message."""
    return repr(name[:200].decode("utf-8", "replace"))


def _checksums(block: bytes) -> tuple[int, int]:
    """The sum as it should be, and as some old programs make it, with signed bytes."""
    counted = block[:148] + b" " * 8 + block[156:]
    unsigned = sum(counted)
    return unsigned, unsigned - 256 * sum(1 for byte in counted if byte > 127)


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _number(field: bytes, what: str, *, negative: bool = False) -> int:
    """Octal digits, or binary where the first bit says so."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=True) if field[0] & 0x40 else int.from_bytes(field, "big")
        value = value if value < 0 else value & ~(0x80 << (8 * (len(field) - 1)))
        if value < 0 and not negative:
            raise wrong(f"a {what} in it is negative")
        return max(0, value)
    digits = field.strip(b" \0")
    if digits.strip(b"01234567"):
        raise wrong(f"a {what} in it is no number")
    return int(digits or b"0", 8)


def _bounded_size(size: int) -> int:
    if size > _MAX_SIZE:
        raise wrong("an entry claims a size that no file has")
    return size


def read_extended(content: bytes, *, for_all: bool) -> Extended:
    """The records of a pax header. One `for_all` may not name or size anything: that is no use but to mislead."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(content):
        length = _RECORD.match(content, at, at + 8)
        end = at + int(length.group(1)) if length else 0
        if length is None or not length.end() < end <= len(content) or content[end - 1 : end] != b"\n":
            raise wrong("an extended header in it is damaged")
        key, separator, value = content[length.end() : end - 1].partition(b"=")
        if not separator or not key:
            raise wrong("an extended header in it is damaged")
        if key.startswith(b"GNU.sparse."):
            raise wrong("it holds a sparse file, and only files, directories and symbolic links are taken")
        found[key] = value
        at = end
    if for_all:
        if found.keys() & {b"path", b"linkpath", b"size"}:
            raise wrong("a global header in it gives all entries one name or size")
        return Extended()
    size = found.get(b"size")
    if size is not None and not re.fullmatch(rb"\d{1,19}", size):
        raise wrong("a size in it is no number")
    return Extended(
        path=found.get(b"path"),
        target=found.get(b"linkpath"),
        size=None if size is None else _bounded_size(int(size)),
        modify_time_ns=_time(found.get(b"mtime", b"")),
    )


def _time(text: bytes) -> int | None:
    parts = _TIME.fullmatch(text)
    if parts is None:
        return None
    seconds, fraction = parts.groups()
    return min(int(seconds), _MAX_TIME) * 1_000_000_000 + int((fraction or b"").ljust(9, b"0"))


def write_header(
    kind: Kind, name: bytes, *, size: int = 0, mode: int = 0o644, seconds: int = 0, target: bytes = b""
) -> bytes:
    """The blocks before an entry: names that do not fit go before it, as GNU tar and everybody else reads them."""
    blocks = b""
    for long, what in ((name, Kind.LONG_NAME), (target, Kind.LONG_TARGET)):
        if len(long) > _NAME_BYTES:
            content = long + b"\0"
            blocks += _block(what, b"././@LongLink", len(content), 0, 0, b"") + padded(content)
    return blocks + _block(kind, name[:_NAME_BYTES], size, mode, min(max(0, seconds), _MAX_TIME), target[:_NAME_BYTES])


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % BLOCK)


def _block(kind: Kind, name: bytes, size: int, mode: int, seconds: int, target: bytes) -> bytes:
    block = b"".join(
        (
            name.ljust(100, b"\0"),
            b"%07o\0" % mode,
            b"%07o\0" % 1000 * 2,
            _encoded(size),
            _encoded(seconds),
            b" " * 8,
            kind.value,
            target.ljust(100, b"\0"),
            _GNU,
            b"user".ljust(32, b"\0") * 2,
        )
    ).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _encoded(number: int) -> bytes:
    if number < 8**_SIZE_DIGITS:
        return b"%011o\0" % number
    return b"\x80" + number.to_bytes(_SIZE_DIGITS, "big")
