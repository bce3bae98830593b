"""Workspaces as messages."""

from portway.server.agents.types import Budget
from portway.server.workspaces.manage import Wanted
from portway.server.workspaces.types import Quota, Workspace, WorkspaceLimits
from portway.v1 import usage_pb2, workspace_pb2


def wanted_workspace(message: workspace_pb2.Workspace) -> Wanted:
    """What somebody asks for."""
    return Wanted(
        workspace_id=message.workspace_id,
        name=message.name,
        revision=message.revision,
        disabled=message.disabled,
        limits=WorkspaceLimits(quota=_quota(message.quota), budget=_budget(message.budget)),
    )


def workspace_message(workspace: Workspace) -> workspace_pb2.Workspace:
    """A workspace as it is kept."""
    message = workspace_pb2.Workspace(
        workspace_id=workspace.workspace_id,
        name=workspace.name,
        disabled=workspace.disabled,
        revision=workspace.revision,
    )
    if workspace.limits.quota != Quota():
        _write_quota(workspace.limits.quota, message.quota)
    if workspace.limits.budget != Budget():
        _write_budget(workspace.limits.budget, message.budget)
    message.create_time.FromMicroseconds(workspace.create_time)
    message.update_time.FromMicroseconds(workspace.update_time)
    return message


def _quota(message: workspace_pb2.WorkspaceQuota) -> Quota:
    return Quota(
        active_runs=message.max_active_runs,
        queued_runs=message.max_queued_runs,
        artifact_bytes=message.max_artifact_bytes,
        box_sessions=message.max_box_sessions,
        events_per_minute=message.events_per_minute,
    )


def _write_quota(quota: Quota, message: workspace_pb2.WorkspaceQuota) -> None:
    message.max_active_runs = quota.active_runs
    message.max_queued_runs = quota.queued_runs
    message.max_artifact_bytes = quota.artifact_bytes
    message.max_box_sessions = quota.box_sessions
    message.events_per_minute = quota.events_per_minute


def _budget(message: usage_pb2.Budget) -> Budget:
    return Budget(
        cost_micros=message.cost_micros if message.HasField("cost_micros") else None,
        currency=message.currency,
        tokens=message.tokens if message.HasField("tokens") else None,
        calls=message.calls if message.HasField("calls") else None,
        bytes=message.bytes if message.HasField("bytes") else None,
        seconds=message.time.ToMicroseconds() / 1e6 if message.HasField("time") else None,
    )


def _write_budget(budget: Budget, message: usage_pb2.Budget) -> None:
    message.currency = budget.currency
    for name in ("cost_micros", "tokens", "calls", "bytes"):
        if (value := getattr(budget, name)) is not None:
            setattr(message, name, value)
    if budget.seconds is not None:
        message.time.FromMicroseconds(round(budget.seconds * 1e6))
