"""What an attempt has begun elsewhere: so that whoever stops it can ask what is really gone."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MAX_HELD = 4_096


@dataclass(frozen=True, slots=True)
class Held:
    """One thing. `under` is the id of what it belongs to, '' for the run itself.

    `look` returns when nothing of it goes on any more; it is only called after the attempt has ended, and may stop the
    thing itself. Raises Unavailable where nobody can be asked, WrongState where nobody knows. Without it, the thing is
    the host's own and ends with the attempt, unless it is `remote`: then it was asked to stop, and nobody says whether
    it did.
    """

    kind: str
    part_id: str
    under: str = ""
    look: Callable[[], Awaitable[object]] | None = None
    remote: bool = False


class Holdings:
    """Of one attempt. From `stopping` on nothing is forgotten: it was there when the attempt was asked to stop."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], Held] = {}
        self._stopping = False

    def __iter__(self) -> Iterator[Held]:
        return iter(tuple(self._held.values()))

    def stopping(self) -> None:
        """Somebody has asked the attempt to stop, and wants to know what becomes of everything."""
        self._stopping = True

    def add(self, held: Held) -> None:
        """It has begun. Past the bound it is not told of."""
        if len(self._held) < MAX_HELD:
            self._held[(held.kind, held.part_id)] = held

    def drop(self, kind: str, part_id: str) -> None:
        """It is over."""
        if not self._stopping:
            self._held.pop((kind, part_id), None)

    @contextmanager
    def holding(self, held: Held) -> Iterator[None]:
        """While the block runs."""
        self.add(held)
        try:
            yield
        finally:
            self.drop(held.kind, held.part_id)
