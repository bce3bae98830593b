"""Output that is kept up to a limit: the head and the tail, with the middle left out."""

HEAD_SHARE = 0.6


class HeadAndTail:
    """Keeps at most `limit` bytes, 60 % from the beginning and 40 % from the end."""

    def __init__(self, limit: int) -> None:
        self._head_room = round(limit * HEAD_SHARE)
        self._tail_room = limit - self._head_room
        self._head = bytearray()
        self._tail = bytearray()
        self._total = 0

    def add(self, data: bytes) -> None:
        self._total += len(data)
        room = self._head_room - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if not data:
            return
        self._tail += data[-self._tail_room :] if self._tail_room else b""
        # Cut seldom: moving the whole tail for every small piece would cost more than keeping it twice.
        if len(self._tail) > 2 * self._tail_room:
            del self._tail[: len(self._tail) - self._tail_room]

    @property
    def left_out(self) -> int:
        return self._total - len(self._head) - min(len(self._tail), self._tail_room)

    @property
    def total(self) -> int:
        return self._total

    def content(self) -> bytes:
        """Head and tail together; where something was left out, it was between them."""
        tail = self._tail[-self._tail_room :] if self._tail_room else b""
        return bytes(self._head) + bytes(tail)

    @property
    def head(self) -> bytes:
        return bytes(self._head)


class RingBuffer:
    """The last `limit` bytes of a stream, found by their offset from its beginning."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._end = 0

    @property
    def start(self) -> int:
        """Offset of the first byte that is still kept."""
        return self._end - min(len(self._kept), self._limit)

    @property
    def end(self) -> int:
        return self._end

    def add(self, data: bytes) -> None:
        self._end += len(data)
        self._kept += data
        if len(self._kept) > 2 * self._limit:
            del self._kept[: len(self._kept) - self._limit]

    def read(self, offset: int, limit: int) -> bytes:
        """Bytes from `offset` on, which must not lie before `start`."""
        base = self._end - len(self._kept)
        return bytes(self._kept[offset - base : offset - base + limit])
