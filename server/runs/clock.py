"""The time that a run has. It stands still while a person decides."""

import asyncio
from collections.abc import Callable

from portway.server.storage_engine.clock import SECOND, Micros

# The library that carries a run's stream has a deadline of its own, which cannot be moved: so long a run may wait for
# people in all.
LONGEST_PAUSE_SECONDS = 7 * 86_400.0


class RunClock:
    """Of one attempt. `deadline` is in microseconds; `may_pause`: its policy has something that a person must approve.

    `stopped` is told that it stands still, `added` when it runs again of the time that does not count, in seconds.
    """

    def __init__(
        self, deadline: Micros, may_pause: bool, stopped: Callable[[], None], added: Callable[[float], None]
    ) -> None:
        self._deadline = deadline
        self._stopped = stopped
        self._added = added
        self._left = 0.0
        self._since = 0.0
        self._waiting = 0
        self._paused = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._ring: Callable[[], None] = lambda: None
        self.longest_pause = LONGEST_PAUSE_SECONDS if may_pause else 0.0

    def start(self, seconds: float, ring: Callable[[], None]) -> None:
        """Call `ring` once, when so much time is over that counts."""
        self._left, self._ring = max(0.0, seconds), ring
        self._begin()

    def stop(self) -> None:
        """It rings no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._ring = lambda: None

    @property
    def may_still_pause(self) -> float:
        """Seconds that it may yet stand still."""
        return self.longest_pause - self._paused

    def pause(self) -> bool:
        """One more waits; answers whether the clock was running until now."""
        self._waiting += 1
        if self._waiting > 1:
            return False
        now = asyncio.get_running_loop().time()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._left = max(0.0, self._left - (now - self._since))
        self._since = now
        self._stopped()
        return True

    def resume(self) -> Micros:
        """One waits no more; answers the deadline that holds then, 0 while others wait."""
        self._waiting -= 1
        if self._waiting:
            return 0
        stood = asyncio.get_running_loop().time() - self._since
        self._paused += stood
        self._deadline += round(stood * SECOND)
        self._added(stood)
        self._begin()
        return self._deadline

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._since = loop.time()
        self._timer = loop.call_later(self._left, lambda: self._ring())
