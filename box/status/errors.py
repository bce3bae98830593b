"""The last errors of the box, for people who ask what went wrong."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

MOST_KEPT = 1000


@dataclass(frozen=True, slots=True)
class BoxError:
    """`number` grows by one with each error. Time in seconds since the epoch."""

    number: int
    time: float
    session_id: str
    code: str
    message: str


class ErrorLog:
    """Keeps the last errors in memory."""

    def __init__(self) -> None:
        self._errors: deque[BoxError] = deque(maxlen=MOST_KEPT)
        self._count = 0

    def note(self, code: str, message: str, session_id: str = "") -> None:
        self._count += 1
        self._errors.append(BoxError(self._count, time.time(), session_id, code, message))
        structlog.get_logger().warning("box error", code=code, session=session_id, text=message)

    def newest_first(self) -> Sequence[BoxError]:
        return list(reversed(self._errors))
