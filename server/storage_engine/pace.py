"""How long a writer waits for more units to share its next commit.

A commit costs as much as dozens of statements. Where few units come each gets its own, at once. Where many come the
writer sleeps a little, and the callers whose units arrive meanwhile share one commit: each waits at most `LONGEST`
more and the machine does several times less for it.
"""

import time
from collections.abc import Callable

LONGEST = 0.002
"""Seconds. Less than what a caller waits anyway where so many come."""
_ENOUGH = 16
"""Units that make a good group: from here on a commit costs little of each."""
_BUSY = 800.0
"""Units a second. One conversation alone stays far below, so it never waits."""
_WINDOW = 0.01
"""Seconds over which arrivals are counted."""


class Pace:
    """Belongs to the writer's thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._seen = 0
        self._rate = 0.0

    def wait(self, arrived: int, waiting: int) -> float:
        """Seconds to sleep before the next group is taken. `arrived` counts all units since the start; `waiting` are
        those that wait now."""
        now = self._clock()
        passed = now - self._since
        if passed >= _WINDOW:
            self._rate = (arrived - self._seen) / passed
            self._since, self._seen = now, arrived
        if self._rate < _BUSY or waiting >= _ENOUGH:
            return 0.0
        return min(LONGEST, (_ENOUGH - waiting) / self._rate)
