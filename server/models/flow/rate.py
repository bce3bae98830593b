"""Calls per minute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class RateLimit(Protocol):
    """Decides about one more call; the seam for limits that several hosts share."""

    def wait_time(self) -> float:
        """0 when the call may go now (and it is counted), else the seconds after which it may."""


class Unlimited:
    """Lets everything through."""

    def wait_time(self) -> float:
        return 0.0


class RequestsPerMinute:
    """A bucket that holds one minute's calls and fills evenly; `clock` counts seconds and never goes back."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._capacity = float(per_minute)
        self._per_second = per_minute / 60
        self._clock = clock
        self._left = self._capacity
        self._seen = clock()

    def wait_time(self) -> float:
        now = self._clock()
        self._left = min(self._capacity, self._left + (now - self._seen) * self._per_second)
        self._seen = now
        if self._left < 1:
            return (1 - self._left) / self._per_second
        self._left -= 1
        return 0.0
