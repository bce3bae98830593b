"""Lines and server-sent events out of bytes, however these are cut."""

from dataclasses import dataclass

MAX_LINE_BYTES = 1024 * 1024
MAX_EVENT_BYTES = 4 * 1024 * 1024


class StreamUnreadable(ValueError):
    """The stream is none, or longer than what is kept of it; the message says what is wrong."""


class LineSplitter:
    """Lines that end with LF, CRLF or CR, without their ends. At most one line is kept."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._after_cr = False
        self._first = True

    def feed(self, data: bytes) -> list[str]:
        if self._after_cr and data:
            # The LF of a CRLF that was cut in two.
            data = data[1:] if data[:1] == b"\n" else data
            self._after_cr = False
        if data.endswith(b"\r"):
            self._after_cr = True
        whole = bytes(self._rest) + data
        # Only what is new can hold an end, but a BOM and long lines are rare enough to look at the whole.
        pieces = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = bytearray(pieces.pop())
        if len(self._rest) > MAX_LINE_BYTES or any(len(piece) > MAX_LINE_BYTES for piece in pieces):
            raise StreamUnreadable(f"a line is longer than {MAX_LINE_BYTES:,} bytes")
        return [self._text(piece) for piece in pieces]

    def rest(self) -> str:
        """What came after the last end of a line."""
        return self._text(bytes(self._rest))

    def _text(self, line: bytes) -> str:
        if self._first:
            line, self._first = line.removeprefix(b"\xef\xbb\xbf"), False
        try:
            return line.decode()
        except UnicodeDecodeError:
            raise StreamUnreadable("a line is no UTF-8") from None


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event; `name` is `message` where the service gave none."""

    name: str
    data: str


class EventReader:
    """Server-sent events. Comments, ids and waiting times are left out; an event without data is none."""

    def __init__(self) -> None:
        self._lines = LineSplitter()
        self._name = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, data: bytes) -> list[ServerEvent]:
        """The events that are complete."""
        return [event for line in self._lines.feed(data) if (event := self._take(line)) is not None]

    def finish(self) -> list[ServerEvent]:
        """What the end of the stream completes: some services leave out the last empty line, which is harmless,
        because a runner takes no stream for complete without the service's own last event."""
        return [event for line in (self._lines.rest(), "") if (event := self._take(line)) is not None]

    def _take(self, line: str) -> ServerEvent | None:
        if not line:
            return self._complete()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._name = value
        elif name == "data":
            self._size += len(value)
            if self._size > MAX_EVENT_BYTES:
                raise StreamUnreadable(f"an event is longer than {MAX_EVENT_BYTES:,} characters")
            self._data.append(value)
        return None

    def _complete(self) -> ServerEvent | None:
        name, data = self._name or "message", self._data
        self._name, self._data, self._size = "", [], 0
        return ServerEvent(name, "\n".join(data)) if data else None
