"""How long to wait before the next attempt: longer each time, capped, never the same for two that began together."""

import random


class Backoff:
    """Pauses in seconds. `reset` after a success."""

    def __init__(self, first: float = 0.1, factor: float = 1.8, cap: float = 2.0) -> None:
        self._first = first
        self._factor = factor
        self._cap = cap
        self._next = first

    def pause(self) -> float:
        """The next pause: between half of the current step and all of it."""
        step = self._next
        self._next = min(self._next * self._factor, self._cap)
        return random.uniform(step / 2, step)

    def reset(self) -> None:
        self._next = self._first
