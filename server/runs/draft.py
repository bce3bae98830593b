"""The text that a runner is writing: neighbouring deltas are joined before they are committed."""

from dataclasses import dataclass

from portway.rpc.errors import LimitExceeded

FLUSH_CHARS = 64 * 1024
MAX_KEYS = 1_000
MAX_KEY_CHARS = 128


@dataclass(frozen=True, slots=True)
class Chunk:
    """Joined text of one message key. `offset` counts the code points of the same kind that came before it.

    `first` to `last` is the range of the runner's own sequence that it covers.
    """

    key: str
    reasoning: bool
    text: str
    offset: int
    first: int
    last: int


class Draft:
    """Holds text that is not in the ledger yet: of one message key and kind at a time."""

    def __init__(self) -> None:
        self._lengths: dict[tuple[str, bool], int] = {}
        self._key: tuple[str, bool] = ("", False)
        self._pieces: list[str] = []
        self._chars = 0
        self._offset = 0
        self._first = 0
        self._last = 0

    @property
    def full(self) -> bool:
        """Enough for an entry of its own."""
        return self._chars >= FLUSH_CHARS

    @property
    def empty(self) -> bool:
        return not self._pieces

    def fits(self, key: str, reasoning: bool) -> bool:
        """Whether text of this key and kind joins what is held."""
        return not self._pieces or self._key == (key, reasoning)

    def add(self, key: str, reasoning: bool, text: str, first: int, last: int) -> Chunk:
        """Take text that `fits`; answers it with its place, for watchers.

        Raises LimitExceeded past the number or length of keys.
        """
        name = (key, reasoning)
        offset = self._lengths.get(name, 0)
        if name not in self._lengths:
            if len(self._lengths) >= MAX_KEYS:
                raise LimitExceeded(f"a run writes at most {MAX_KEYS} messages; this is one more")
            if len(key) > MAX_KEY_CHARS:
                raise LimitExceeded(f"a message key has at most {MAX_KEY_CHARS} characters")
        self._lengths[name] = offset + len(text)
        if not self._pieces:
            self._key, self._offset, self._first = name, offset, first
        self._pieces.append(text)
        self._chars += len(text)
        self._last = last
        return Chunk(key, reasoning, text, offset, first, last)

    def peek(self) -> Chunk | None:
        """What is held, joined."""
        if not self._pieces:
            return None
        key, reasoning = self._key
        text = "".join(self._pieces)
        return Chunk(key, reasoning, text, self._offset, self._first, self._last)

    def take(self) -> Chunk | None:
        """What was held; nothing is held afterwards."""
        chunk = self.peek()
        self._pieces.clear()
        self._chars = 0
        return chunk
