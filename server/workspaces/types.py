"""A workspace: whose everything else is."""

from dataclasses import dataclass

from portway.server.agents.types import Budget

DEFAULT_WORKSPACE = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What a workspace may hold and do; 0: no limit."""

    active_runs: int = 0
    queued_runs: int = 0
    artifact_bytes: int = 0
    box_sessions: int = 0
    events_per_minute: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceLimits:
    """`budget` is what it may spend a month."""

    quota: Quota = Quota()
    budget: Budget = Budget()


@dataclass(frozen=True, slots=True)
class Workspace:
    """`disabled` refuses everything and keeps the data; `revision` grows with every change.

    `delete_time` is set from when it is being erased.
    """

    workspace_id: str
    name: str
    disabled: bool
    revision: int
    create_time: int
    update_time: int
    limits: WorkspaceLimits = WorkspaceLimits()
    delete_time: int = 0

    @property
    def closed(self) -> bool:
        """Nothing of it runs."""
        return self.disabled or bool(self.delete_time)
