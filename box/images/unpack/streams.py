"""Byte streams of an archive: plain or packed, read piece by piece, so that none is ever whole in memory."""

import bz2
import importlib
import lzma
import os
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from portway.box.images.unpack.terms import Budget, Refused

PIECE = 256 * 1024
_XZ_MEMORY = 128 * 1024 * 1024
_ENDED_EARLY = "the stream ended in the middle of it: it was cut off, or is no whole archive"


class Decompressor(Protocol):
    """What `bz2`, `lzma` and `zstd` have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    """`zlib` in the shape of the others."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


def _zstd() -> Decompressor:
    try:
        module: Any = importlib.import_module("compression.zstd")
    except ImportError:
        raise Refused("it is packed with zstd, which this Python cannot unpack; send it plain or with gzip") from None
    made: Decompressor = module.ZstdDecompressor()
    return made


_MAGIC: tuple[tuple[bytes, Callable[[], Decompressor]], ...] = (
    (b"\x1f\x8b", _Gzip),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\xfd7zXZ\x00", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY)),
    (b"\x28\xb5\x2f\xfd", _zstd),
)
_LONGEST_MAGIC = 6


class Stream:
    """Reads exactly what is asked for from pieces of any size."""

    def __init__(self, pull: Callable[[], bytes], note: Callable[[bytes], None] | None = None) -> None:
        """`pull` gives the next piece, empty at the end; `note` is told each byte once."""
        self._pull = pull
        self._note = note
        self._left = b""

    def read(self, most: int) -> bytes:
        """Some of the next bytes; empty at the end."""
        if not self._left:
            self._left = self._pull()
            if self._note is not None and self._left:
                self._note(self._left)
        piece, self._left = self._left[:most], self._left[most:]
        return piece

    def exactly(self, size: int) -> bytes:
        """`size` bytes, which must be small: they are held together. Refused where the stream ends before."""
        found = []
        while size:
            piece = self.read(size)
            if not piece:
                raise Refused(_ENDED_EARLY)
            found.append(piece)
            size -= len(piece)
        return b"".join(found)

    def skip(self, size: int) -> None:
        while size:
            piece = self.read(min(size, PIECE))
            if not piece:
                raise Refused(_ENDED_EARLY)
            size -= len(piece)

    def drain(self) -> None:
        while self.read(PIECE):
            pass


def open_stream(descriptor: int, budget: Budget, note: Callable[[bytes], None] | None = None) -> Stream:
    """What a descriptor holds, unpacked where it is packed."""
    head = b""
    while len(head) < _LONGEST_MAGIC and (piece := os.read(descriptor, PIECE)):
        head += piece
    make = next((make for magic, make in _MAGIC if head.startswith(magic)), None)
    if make is None:
        return Stream(_Plain(descriptor, head, budget).pull, note)
    return Stream(_Packed(descriptor, head, make, budget).pull, note)


class _Plain:
    def __init__(self, descriptor: int, head: bytes, budget: Budget) -> None:
        self._descriptor = descriptor
        self._head = head
        self._budget = budget

    def pull(self) -> bytes:
        piece, self._head = self._head or os.read(self._descriptor, PIECE), b""
        self._budget.expanded(len(piece))
        return piece


class _Packed:
    """One packed stream, which may be several of a kind behind each other."""

    def __init__(self, descriptor: int, head: bytes, make: Callable[[], Decompressor], budget: Budget) -> None:
        self._descriptor = descriptor
        self._input = head
        self._make = make
        self._inner = make()
        self._budget = budget
        self._taken, self._produced = len(head), 0

    def pull(self) -> bytes:
        while True:
            if self._inner.eof and not self._next_member():
                return b""
            if not self._input and self._inner.needs_input:
                self._input = self._more()
                if not self._input:
                    raise Refused(_ENDED_EARLY)
            data, self._input = self._input, b""
            try:
                piece = self._inner.decompress(data, PIECE)
            except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError):
                raise Refused("it is packed in a way that cannot be unpacked: it is damaged") from None
            self._produced += len(piece)
            self._budget.expanded(len(piece))
            self._budget.ratio(self._produced, self._taken)
            if piece:
                return piece

    def _more(self) -> bytes:
        piece = os.read(self._descriptor, PIECE)
        self._taken += len(piece)
        return piece

    def _next_member(self) -> bool:
        """Whether another one follows. Zeros at the end are padding; anything else is not for us to guess."""
        rest = self._inner.unused_data
        while not rest.strip(b"\0"):
            rest = self._more()
            if not rest:
                return False
        while len(rest) < _LONGEST_MAGIC and (piece := self._more()):
            rest += piece
        if not any(make is self._make and rest.startswith(magic) for magic, make in _MAGIC):
            raise Refused("something follows its packed part that does not belong to it")
        self._inner, self._input = self._make(), rest
        return True
