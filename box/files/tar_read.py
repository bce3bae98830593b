"""A tar archive of a stranger, read as it arrives.

Nothing is kept but one block, or one extended header of at most 64 KiB. What two programs could read in two ways is
refused: this is the door through which files of others come in, and a strict reader is smaller than a forgiving one.
"""

from dataclasses import dataclass
from typing import Protocol

from portway.box.files.tar_header import (
    BLOCK,
    MAX_EXTENDED_BYTES,
    ZEROS,
    Extended,
    Header,
    Kind,
    read_extended,
    read_header,
    shown,
    wrong,
)
from portway.rpc.errors import LimitExceeded

MAX_DEPTH = 64
MAX_PATH_BYTES = 4095
_MAX_NAME_BYTES = 255
_MAX_ZERO_BLOCKS = 2048


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, directory or link. `path` is relative and plain; '' is the directory that is unpacked in."""

    kind: Kind
    path: bytes
    size: int
    mode: int
    modify_time_ns: int
    target: bytes = b""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Bounds of one archive: entries, and bytes of all files together."""

    entries: int
    total_bytes: int


class Sink(Protocol):
    """Where the entries of an archive go. `data` comes between `begin` and `end`, in pieces."""

    def begin(self, entry: Entry) -> None: ...

    def data(self, piece: memoryview) -> None: ...

    def end(self, entry: Entry) -> None: ...


class TarReader:
    """Takes the bytes of an archive in pieces of any size. Raises `InvalidInput` and `LimitExceeded`."""

    def __init__(self, sink: Sink, limits: ArchiveLimits) -> None:
        self._sink = sink
        self._limits = limits
        self._block = bytearray()
        self._left = 0
        self._padding = 0
        self._zeros = 0
        # The header whose content arrives, and the entry where it is one.
        self._header: Header | None = None
        self._entry: Entry | None = None
        self._collected = bytearray()
        self._extended: Extended | None = None
        self._long: dict[Kind, bytes] = {}
        self.entry_count = 0
        self.byte_count = 0

    def feed(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._left:
                piece, view = view[: self._left], view[self._left :]
                self._take(piece)
            elif self._padding:
                skipped = min(self._padding, len(view))
                self._padding -= skipped
                view = view[skipped:]
            else:
                missing = BLOCK - len(self._block)
                self._block += view[:missing]
                view = view[missing:]
                if len(self._block) == BLOCK:
                    block = bytes(self._block)
                    self._block.clear()
                    self._begin(block)

    def finish(self) -> None:
        """Raises `InvalidInput` where the archive did not come to its end."""
        if self._block or self._left or self._padding or self._zeros < 2:
            raise wrong("it ends in the middle")

    def _begin(self, block: bytes) -> None:
        if block == ZEROS:
            if self._extended is not None or self._long:
                raise wrong("it ends after a header that belongs to an entry")
            self._zeros += 1
            if self._zeros > _MAX_ZERO_BLOCKS:
                raise wrong("it does not end after its end")
            return
        if self._zeros:
            raise wrong("something follows after its end")
        header = self._header = read_header(block)
        self._left, self._padding = header.size, -header.size % BLOCK
        match header.kind:
            case Kind.FILE | Kind.DIRECTORY | Kind.LINK:
                self._begin_entry(header)
            case _:
                if not 0 < header.size <= MAX_EXTENDED_BYTES:
                    raise wrong(f"an extended header in it has {header.size} bytes; {MAX_EXTENDED_BYTES} are allowed")
                self._count()

    def _count(self) -> None:
        """Headers that only say something count too: an archive of nothing else would never end."""
        self.entry_count += 1
        if self.entry_count > 2 * self._limits.entries:
            raise LimitExceeded(f"the archive has more than {self._limits.entries} entries")

    def _begin_entry(self, header: Header) -> None:
        extended = self._extended or Extended()
        path = _only_one(extended.path, self._long.get(Kind.LONG_NAME), header.name)
        target = _only_one(extended.target, self._long.get(Kind.LONG_TARGET), header.target)
        size = header.size if extended.size is None else extended.size
        self._extended, self._long = None, {}
        self._count()
        if size and header.kind is not Kind.FILE:
            raise wrong(f"{shown(path)} has content and is no file")
        self.byte_count += size
        if self.byte_count > self._limits.total_bytes:
            raise LimitExceeded(f"the files of the archive have more than {self._limits.total_bytes} bytes")
        times = extended.modify_time_ns
        entry = Entry(
            kind=header.kind,
            path=_plain(path, header.kind),
            size=size,
            mode=header.mode & 0o777,
            modify_time_ns=header.modify_time * 1_000_000_000 if times is None else times,
            target=_checked_target(path, target) if header.kind is Kind.LINK else b"",
        )
        self._left, self._padding, self._entry = size, -size % BLOCK, entry
        self._sink.begin(entry)
        if not size:
            self._end_entry(entry)

    def _take(self, piece: memoryview) -> None:
        self._left -= len(piece)
        if self._entry is not None:
            self._sink.data(piece)
            if not self._left:
                self._end_entry(self._entry)
            return
        self._collected += piece
        if not self._left:
            content = bytes(self._collected)
            self._collected.clear()
            self._keep(content)

    def _end_entry(self, entry: Entry) -> None:
        self._entry = None
        self._sink.end(entry)

    def _keep(self, content: bytes) -> None:
        """An extended header, whole."""
        kind = self._header.kind if self._header else None
        match kind:
            case Kind.GLOBAL:
                read_extended(content, for_all=True)
            case Kind.EXTENDED:
                if self._extended is not None:
                    raise wrong("two extended headers in it belong to one entry")
                self._extended = read_extended(content, for_all=False)
            case Kind.LONG_NAME | Kind.LONG_TARGET:
                if kind in self._long:
                    raise wrong("two long names in it belong to one entry")
                self._long[kind] = content.split(b"\0", 1)[0]


def _only_one(extended: bytes | None, long: bytes | None, plain: bytes) -> bytes:
    if extended is not None and long is not None:
        raise wrong(f"{shown(extended)} has two long names")
    return next(one for one in (extended, long, plain) if one is not None)


def _plain(path: bytes, kind: Kind) -> bytes:
    """The path in its one spelling."""
    if b"\0" in path or len(path) > MAX_PATH_BYTES + 1:
        raise wrong(f"the name {shown(path)} has more than {MAX_PATH_BYTES} bytes, or a zero byte")
    if path.startswith(b"/"):
        raise wrong(f"the name {shown(path)} is absolute")
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise wrong(f"the name {shown(path)} leads out by `..`")
    if len(parts) > MAX_DEPTH:
        raise wrong(f"the name {shown(path)} is deeper than {MAX_DEPTH} directories")
    if any(len(part) > _MAX_NAME_BYTES for part in parts):
        raise wrong(f"a part of the name {shown(path)} is longer than {_MAX_NAME_BYTES} bytes")
    if kind is not Kind.DIRECTORY and (not parts or path.endswith((b"/", b"/."))):
        raise wrong(f"the name {shown(path)} is a directory's, and the entry is none")
    return b"/".join(parts)


def _checked_target(path: bytes, target: bytes) -> bytes:
    """Links are written as they are and never followed here; one that leads out is refused: others would."""
    if not target or b"\0" in target or len(target) > MAX_PATH_BYTES:
        raise wrong(f"the link {shown(path)} leads nowhere")
    depth = len([part for part in path.split(b"/") if part not in (b"", b".")]) - 1
    for part in target.split(b"/"):
        depth += 0 if part in (b"", b".") else -1 if part == b".." else 1
        if depth < 0 or target.startswith(b"/"):
            raise wrong(f"the link {shown(path)} leads out, to {shown(target)}")
    return target
