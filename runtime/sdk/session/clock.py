"""The time a run has left. It stands still while the run waits for a person's approval."""

import time
from datetime import UTC, datetime


class RunClock:
    def __init__(self, deadline: datetime | None) -> None:
        left = (deadline - datetime.now(UTC)).total_seconds() if deadline else None
        self._end = None if left is None else time.monotonic() + left
        self._paused_since: float | None = None

    def pause(self) -> None:
        if self._paused_since is None:
            self._paused_since = time.monotonic()

    def resume(self) -> None:
        if self._paused_since is not None and self._end is not None:
            self._end += time.monotonic() - self._paused_since
        self._paused_since = None

    def remaining(self) -> float | None:
        """Seconds left, 0 at least; None where there is no end, or none for now."""
        if self._end is None or self._paused_since is not None:
            return None
        return max(0.0, self._end - time.monotonic())
