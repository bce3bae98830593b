"""How long a plugin waits before it is started again."""

import time
from collections.abc import Callable

FIRST = 0.5


class Backoff:
    """The first failure costs nothing, so that a single crash is not felt; each further one doubles the wait."""

    def __init__(self, longest: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest = longest
        self._clock = clock
        self._failures = 0
        self._until = 0.0

    def remaining(self) -> float:
        """Seconds to wait still."""
        return max(0.0, self._until - self._clock())

    def fail(self) -> None:
        self._failures += 1
        wait = 0.0 if self._failures == 1 else FIRST * 2.0 ** min(self._failures - 2, 16)
        self._until = self._clock() + min(wait, self._longest)

    def crash(self, *, healthy: bool) -> None:
        """A crash after good work counts as the first."""
        if healthy:
            self._failures = 0
        self.fail()
