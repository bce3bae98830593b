"""Bodies of answers, unpacked in small pieces: a little that unpacks to a lot is never in memory at once."""

import zlib
from collections.abc import Iterator

PIECE = 64 * 1024
_PLAIN = ("", "identity")
_PACKED = ("gzip", "x-gzip")


class Unpackable(ValueError):
    """The body is packed in a way that was not asked for, or broken; the message says which."""


class Unpacker:
    """Takes the bytes of one body. Nothing packed is asked for, but some servers in between pack whatever they pass."""

    def __init__(self, encoding: str) -> None:
        named = encoding.strip().lower()
        if named not in _PLAIN and named not in _PACKED:
            raise Unpackable("it is packed in a way that was not asked for")
        self._inflate = _gunzip() if named in _PACKED else None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data` unpacks to, in pieces of at most 64 KiB where it was packed."""
        if self._inflate is None:
            yield data
            return
        try:
            while data:
                if self._inflate.eof:
                    self._inflate = _gunzip()
                if piece := self._inflate.decompress(data, PIECE):
                    yield piece
                data = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
        except zlib.error:
            raise Unpackable("its compression is broken") from None

    def finish(self) -> None:
        """Raises where the packed body was cut."""
        if self._inflate is not None and not self._inflate.eof:
            raise Unpackable("it was cut")


def _gunzip() -> "zlib._Decompress":
    return zlib.decompressobj(zlib.MAX_WBITS | 16)
