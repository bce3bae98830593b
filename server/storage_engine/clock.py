"""Time as the database keeps it: whole microseconds since 1970 UTC. Integers compare and index the same everywhere."""

import time
from collections.abc import Callable
from typing import TypeAlias

Micros: TypeAlias = int

SECOND: Micros = 1_000_000


def now() -> Micros:
    """The machine's wall clock."""
    return time.time_ns() // 1000


class ForwardClock:
    """A wall clock that never goes back: a step of the machine's clock cannot put a later row before an earlier one."""

    def __init__(self, source: Callable[[], Micros] = now) -> None:
        self._source = source
        self._last: Micros = 0

    def now(self) -> Micros:
        return self.at_least(self._source())

    def at_least(self, moment: Micros) -> Micros:
        """What another clock says, or the last time that was told where that is later."""
        self._last = max(self._last, moment)
        return self._last
