"""The part of a stream that is kept until somebody has it for sure."""


class OutputWindow:
    """Bytes of a stream from `start` to `end`, found by their offset from its beginning."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self.start = 0

    @property
    def end(self) -> int:
        return self.start + len(self._kept)

    @property
    def size(self) -> int:
        return len(self._kept)

    def add(self, data: bytes) -> None:
        self._kept += data

    def drop_before(self, offset: int) -> None:
        """Gives up what lies before `offset`; nothing happens where that is gone already."""
        count = min(offset - self.start, len(self._kept))
        if count > 0:
            del self._kept[:count]
            self.start += count

    def read(self, offset: int, limit: int) -> bytes:
        """Bytes from `offset` on, which must not lie before `start`."""
        base = offset - self.start
        return bytes(memoryview(self._kept)[base : base + limit])
