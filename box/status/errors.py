"""The last errors of the box, for people who ask what went wrong."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from portway.rpc.metrics.families import Counts

MOST_KEPT = 1000


@dataclass(frozen=True, slots=True)
class BoxError:
    """`number` grows by one with each error. Time in seconds since the epoch."""

    number: int
    time: float
    session_id: str
    code: str
    message: str
    workspace_id: str = ""


class ErrorLog:
    """Keeps the last errors in memory. No workspace can push out what others have to look at."""

    def __init__(self) -> None:
        self._errors: dict[str, deque[BoxError]] = {}
        self._count = 0
        self._kept = 0
        self.counts = Counts()

    def note(self, code: str, message: str, session_id: str = "", workspace_id: str = "") -> None:
        """Without a workspace it is an error of the box as a whole, which everybody sees."""
        self._count += 1
        self._kept += 1
        self.counts.add(code)
        error = BoxError(self._count, time.time(), session_id, code, message, workspace_id)
        self._errors.setdefault(workspace_id, deque()).append(error)
        if self._kept > MOST_KEPT:
            self._drop_one()
        structlog.get_logger().warning("box error", code=code, session=session_id, text=message)

    def _drop_one(self) -> None:
        most = max(self._errors, key=lambda workspace_id: len(self._errors[workspace_id]))
        self._errors[most].popleft()
        self._kept -= 1
        if not self._errors[most]:
            del self._errors[most]

    def newest_first(self, workspace_id: str | None = None, session_id: str = "") -> Sequence[BoxError]:
        """What a workspace may see: its own and the box's; with `None` everything. `session_id`: only of that one."""
        seen = self._errors if workspace_id is None else {workspace_id, ""} & self._errors.keys()
        found = [error for one in seen for error in self._errors[one] if session_id in ("", error.session_id)]
        return sorted(found, key=lambda error: -error.number)
