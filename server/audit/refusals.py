"""Refused calls in the audit: who was kept out, and who asked for more than they may."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from portway.rpc.call import Call
from portway.rpc.errors import NotAuthenticated, NotPermitted, PortwayError, RateLimited, Reason
from portway.rpc.identity import Caller, Role
from portway.server.audit.types import NewAuditRecord
from portway.server.workspaces.types import DEFAULT_WORKSPACE

# The same refusal again within this time is counted and not written: a flood must not fill the disk.
REPEAT_SECONDS = 60.0
_REMEMBERED = 10_000
_REASONS = (Reason.KILL_SWITCH, Reason.WORKSPACE_DISABLED, Reason.QUOTA_EXCEEDED)
_Key = tuple[str, str, str, str]


class Recorder(Protocol):
    def record(self, record: NewAuditRecord) -> None:
        """Queue a record. Never blocks and never raises."""


class Refusals:
    """Writes the first of each kind; the next one, a minute later or more, tells how many came in between."""

    def __init__(self, recorder: Recorder, clock: Callable[[], float] = time.monotonic) -> None:
        self._recorder = recorder
        self._clock = clock
        self._seen: OrderedDict[_Key, tuple[float, int]] = OrderedDict()

    def refused(self, call: Call[Any, Any], error: PortwayError) -> None:
        """Told of every call that failed; most failures are no refusals."""
        caller: Caller | None = getattr(call, "caller", None)
        kept_out = isinstance(error, NotAuthenticated | NotPermitted | RateLimited)
        if not kept_out and error.reason not in _REASONS:
            return
        if caller is not None and caller.role is Role.RUNNER and error.reason != Reason.ROLE_LACKS_METHOD:
            # What a run may not do is written down where it is checked, with the run's own names.
            return
        peer = call.peer.address
        who = caller.token_id if caller else peer.rpartition(":")[0]
        again = self._again((call.method.path, who, str(error.reason), caller.workspace_id if caller else ""))
        if again is None:
            return
        self._recorder.record(
            NewAuditRecord(
                workspace_id=_workspace(caller),
                action="call.refused",
                resource=call.method.path,
                allowed=False,
                reason=str(error.reason),
                role=caller.role.name.lower() if caller else "",
                subject=caller.subject if caller else "",
                token_id=caller.token_id if caller else "",
                trace_id=call.trace_id,
                peer=peer,
                details=f"and {again} more like it before" if again else "",
            )
        )

    def _again(self, key: _Key) -> int | None:
        """How many like it were not written; None where this one is not to be written either."""
        now = self._clock()
        since, count = self._seen.pop(key, (float("-inf"), 0))
        written = now - since >= REPEAT_SECONDS
        self._seen[key] = (now, 0) if written else (since, count + 1)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return count if written else None


def _workspace(caller: Caller | None) -> str:
    """Who is not known belongs to no workspace: administrators of the default one should see it."""
    return caller.workspace_id if caller and caller.workspace_id != "*" else DEFAULT_WORKSPACE
