"""What a workspace may hold and do, asked where it would hold or do more."""

import time
from collections import Counter
from collections.abc import Callable

from portway.rpc.errors import LimitExceeded, Quota, RateLimited
from portway.rpc.limits import TokenBuckets
from portway.server.artifacts.store import bytes_kept
from portway.server.storage_engine.transaction import ReadTransaction
from portway.server.workspaces.directory import WorkspaceDirectory

_MINUTE = 60.0
# How soon a caller whose run found no place tries again.
_QUEUE_RETRY = 5.0


class WorkspaceQuotas:
    """The limits come from the directory. What is counted by the minute is counted in memory."""

    def __init__(self, directory: WorkspaceDirectory, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._clock = clock
        self._entering: Counter[str] = Counter()
        self._events: dict[str, tuple[int, TokenBuckets]] = {}

    def admit_event(self, workspace_id: str) -> None:
        """Counts an event. Raises WrongState (WORKSPACE_DISABLED), RateLimited (QUOTA_EXCEEDED)."""
        self._directory.check_open(workspace_id)
        limit = self._directory.quota(workspace_id).events_per_minute
        if not limit:
            self._events.pop(workspace_id, None)
            return
        known = self._events.get(workspace_id)
        if known is None or known[0] != limit:
            # A minute's worth may come at once; after that they come evenly.
            known = limit, TokenBuckets(limit / _MINUTE, float(limit), clock=self._clock)
            self._events[workspace_id] = known
        try:
            known[1].take(workspace_id)
        except RateLimited as error:
            raise _full(workspace_id, f"{limit} events a minute", error.retry_after) from None

    def admit_queued(self, workspace_id: str, waiting: int) -> None:
        """`waiting`: runs of it that wait now. Raises LimitExceeded (QUOTA_EXCEEDED)."""
        limit = self._directory.quota(workspace_id).queued_runs
        if limit and waiting + self._entering[workspace_id] >= limit:
            raise _full(workspace_id, f"{limit} waiting runs", _QUEUE_RETRY)

    def entering(self, workspace_id: str) -> None:
        """A run was admitted and is on its way to the queue: those that come meanwhile must count it."""
        self._entering[workspace_id] += 1

    def entered(self, workspace_id: str) -> None:
        """It is there, or did not come about."""
        self._entering[workspace_id] -= 1
        if not self._entering[workspace_id]:
            del self._entering[workspace_id]

    def active_limit(self, workspace_id: str) -> int | None:
        """How many of its runs may execute at once; None for no limit, 0 while nothing of it runs."""
        if self._directory.is_closed(workspace_id):
            return 0
        return self._directory.quota(workspace_id).active_runs or None

    def limits_bytes(self, workspace_id: str) -> bool:
        """Whether anybody has to count."""
        return bool(self._directory.quota(workspace_id).artifact_bytes)

    def admit_bytes(self, tx: ReadTransaction, workspace_id: str, size: int) -> None:
        """In the unit that keeps a file, or before it. Raises LimitExceeded (QUOTA_EXCEEDED)."""
        limit = self._directory.quota(workspace_id).artifact_bytes
        if limit and bytes_kept(tx, workspace_id) + size > limit:
            raise _full(workspace_id, f"{limit} bytes of artifacts")

    def session_limit(self, workspace_id: str) -> int:
        """How many sandboxes it may have; 0 for no limit."""
        return self._directory.quota(workspace_id).box_sessions

    def admit_session(self, workspace_id: str, existing: int) -> None:
        """`existing`: sandboxes that it has. Raises LimitExceeded (QUOTA_EXCEEDED)."""
        limit = self.session_limit(workspace_id)
        if limit and existing >= limit:
            raise _full(workspace_id, f"{limit} sandboxes")

    def drop(self, workspace_id: str) -> None:
        """The workspace is gone."""
        self._events.pop(workspace_id, None)


def _full(workspace_id: str, limit: str, retry_after: float | None = None) -> LimitExceeded:
    return LimitExceeded(
        f"The workspace {workspace_id!r} is allowed {limit}, and has used them up. Wait, remove what is not needed, or "
        "have an administrator raise its quota.",
        retry_after=retry_after,
        quota=Quota(f"workspace {workspace_id}", limit),
    )
