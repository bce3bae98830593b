"""A strict reader of tar: one header at a time, each field judged, nothing guessed."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from portway.box.images.unpack.streams import PIECE, Stream
from portway.box.images.unpack.terms import Refused

BLOCK = 512
MAX_DEPTH, MAX_PATH, MAX_NAME = 128, 4096, 255
_MOST_PAX, _MOST_LONG_NAME, _MOST_EXTENSIONS = 1024 * 1024, 64 * 1024, 8
_LARGEST = 1 << 60
_CHECKSUM = slice(148, 156)


class Kind(Enum):
    """What an entry is. OTHER: a device, a fifo; it has no place in an image."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARD_LINK = "hard link"
    OTHER = "other"


_KINDS = {
    b"0": Kind.FILE, b"\0": Kind.FILE, b"7": Kind.FILE, b"1": Kind.HARD_LINK, b"2": Kind.SYMLINK,
    b"3": Kind.OTHER, b"4": Kind.OTHER, b"5": Kind.DIRECTORY, b"6": Kind.OTHER,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `parts` are the names on the way to it, none of them `.` or `..`; none at all for the root itself.

    `target` is what a link says: for a symlink any text, for a hard link the parts of another entry, joined by `/`.
    """

    parts: tuple[str, ...]
    kind: Kind
    mode: int
    size: int
    target: str

    @property
    def path(self) -> str:
        return "/".join(self.parts)


class Body:
    """The content of an entry."""

    def __init__(self, stream: Stream, size: int) -> None:
        self._stream = stream
        self._left = size

    def read(self) -> bytes:
        """The next bytes; empty at its end."""
        if not self._left:
            return b""
        piece = self._stream.read(min(self._left, PIECE))
        if not piece:
            raise Refused("the stream ended in the middle of a file: it was cut off")
        self._left -= len(piece)
        return piece

    def skip(self) -> None:
        while self.read():
            pass


def entries(stream: Stream) -> Iterator[tuple[Entry, Body]]:
    """Every entry with its content, which is skipped where it is not read. Refused at the first that is not sound."""
    extended: dict[str, str] = {}
    extensions = 0
    while (header := stream.exactly(BLOCK)).strip(b"\0"):
        _check_sum(header)
        flag, size = header[156:157], _number(header[124:136], "size")
        if flag in b"xgLK":
            extensions += 1
            if extensions > _MOST_EXTENSIONS:
                raise Refused("an entry has more extended headers than any program writes")
            _extend(extended, flag, size, stream)
            continue
        size = _pax_size(extended, size)
        entry = _entry(header, flag, size, extended)
        extended, extensions = {}, 0
        body = Body(stream, size)
        if flag != b"V":
            yield entry, body
        body.skip()
        stream.skip(-size % BLOCK)
    if extended:
        raise Refused("it ends after an extended header: it was cut off")


def _check_sum(header: bytes) -> None:
    try:
        told = _number(header[_CHECKSUM], "checksum")
    except Refused:
        told = -1
    if told != sum(header) - sum(header[_CHECKSUM]) + 8 * 0x20:
        raise Refused("it is no tar archive, or a damaged one: a header does not add up")


def _number(field: bytes, what: str) -> int:
    """An octal number, or a binary one where it is too large for that."""
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        if field[0] & 0x40 or value > _LARGEST:
            raise Refused(f"a header has an impossible {what}")
        return value
    digits = field.split(b"\0")[0].strip(b" ")
    if any(digit not in b"01234567" for digit in digits):
        raise Refused(f"a header has a {what} that is no number")
    return int(digits, 8) if digits else 0


def _extend(extended: dict[str, str], flag: bytes, size: int, stream: Stream) -> None:
    """Takes an extended header in; what it says is about the next entry."""
    if size > (_MOST_PAX if flag in b"xg" else _MOST_LONG_NAME):
        raise Refused("an extended header is larger than any program writes")
    data = stream.exactly(size)
    stream.skip(-size % BLOCK)
    if flag == b"L":
        extended["path"] = _text(data.split(b"\0")[0])
    elif flag == b"K":
        extended["linkpath"] = _text(data.split(b"\0")[0])
    else:
        found = _pax_records(data)
        if flag == b"g" and found.keys() & {"path", "linkpath", "size"}:
            raise Refused("a header for all entries names one of them")
        if flag == b"x":
            extended.update(found)


def _pax_records(data: bytes) -> dict[str, str]:
    """Only what matters here is kept: attributes, owners and times have no meaning in an image."""
    found: dict[str, str] = {}
    while data:
        length, space, _rest = data[:12].partition(b" ")
        if not space or not length.isdigit() or not len(length) + 3 < int(length) <= len(data):
            raise Refused("an extended header is damaged")
        record, data = data[len(length) + 1 : int(length)], data[int(length) :]
        name, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise Refused("an extended header is damaged")
        if name.startswith(b"GNU.sparse"):
            raise Refused("it holds a sparse file; make it without `--sparse`")
        if name in (b"path", b"linkpath", b"size"):
            found[name.decode()] = _text(value[:-1])
    return found


def _pax_size(extended: dict[str, str], size: int) -> int:
    told = extended.get("size")
    if told is None:
        return size
    if not told.isascii() or not told.isdigit() or len(told) > 18:
        raise Refused("an extended header has an impossible size")
    return int(told)


def _entry(header: bytes, flag: bytes, size: int, extended: dict[str, str]) -> Entry:
    path = extended.get("path") or _path_of(header)
    kind = _KINDS.get(flag)
    if flag == b"V":
        kind = Kind.OTHER
    if kind is None:
        raise Refused(f"{shown(path)} is of a kind that no image has (type {flag.decode('latin-1')!r})")
    if kind is Kind.FILE and path.endswith("/"):
        kind = Kind.DIRECTORY
    if size and kind is not Kind.FILE:
        raise Refused(f"{shown(path)} is a {kind.value} and has content, which it cannot")
    parts = _parts(path) if flag != b"V" else ()
    if not parts and kind not in (Kind.DIRECTORY, Kind.OTHER):
        raise Refused("an entry without a name is no directory")
    return Entry(parts, kind, _number(header[100:108], "mode"), size, _target(header, kind, path, extended))


def _path_of(header: bytes) -> str:
    name = header[:100].split(b"\0")[0]
    prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name)


def _target(header: bytes, kind: Kind, path: str, extended: dict[str, str]) -> str:
    if kind not in (Kind.SYMLINK, Kind.HARD_LINK):
        return ""
    target = extended.get("linkpath") or _text(header[157:257].split(b"\0")[0])
    if kind is Kind.HARD_LINK:
        return "/".join(_parts(target))
    if not target or "\0" in target or len(target.encode(errors="surrogateescape")) >= MAX_PATH:
        raise Refused(f"{shown(path)} is a link to nothing, or to more than a link can say")
    return target


def _parts(path: str) -> tuple[str, ...]:
    """The names on the way. A slash at the begin is the image's own root, as every program that packs means it."""
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." in parts:
        raise Refused(f"{shown(path)} leads upwards with `..`")
    sizes = [len(part.encode(errors="surrogateescape")) for part in parts]
    if "\0" in path or len(parts) > MAX_DEPTH or sum(sizes) + len(parts) > MAX_PATH or max(sizes, default=0) > MAX_NAME:
        raise Refused(f"{shown(path)} is a path that no file system takes: too long, too deep, or with a zero byte")
    return parts


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def shown(path: str) -> str:
    """A path of the archive as it is told to people: short, and without what a terminal would act upon."""
    text = path.encode(errors="surrogateescape").decode(errors="replace")
    return repr(text if len(text) <= 120 else f"{text[:100]}…")
