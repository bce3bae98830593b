"""Who did or tried what, and whether it was allowed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAuditRecord:
    """`action` is a method or operation, `resource` what it was about, `peer` where the call came from. `details` is a
    short text without secrets."""

    workspace_id: str
    action: str
    resource: str
    allowed: bool
    reason: str = ""
    role: str = ""
    subject: str = ""
    token_id: str = ""
    run_id: str = ""
    runner_id: str = ""
    scope: str = ""
    trace_id: str = ""
    details: str = ""
    peer: str = ""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """`sequence` counts the workspace's records from 1."""

    workspace_id: str
    sequence: int
    time: int
    action: str
    resource: str
    allowed: bool
    reason: str
    role: str
    subject: str
    token_id: str
    run_id: str
    runner_id: str
    scope: str
    trace_id: str
    details: str
    peer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which records a page shows; an empty field filters nothing.

    `action` may be `tools.*`: all of a kind. `actor` is a token, a run or a subject. Times are in microseconds.
    """

    action: str = ""
    resource: str = ""
    subject: str = ""
    run_id: str = ""
    refused_only: bool = False
    actor: str = ""
    after_time: int = 0
    before_time: int = 0
