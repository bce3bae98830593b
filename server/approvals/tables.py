"""Table of approvals."""

from sqlalchemy import Index, Table

from portway.server.storage_engine.columns import metadata, number, octets, only, text

_PENDING = "state = 'pending'"

approvals = Table(
    "approvals",
    metadata,
    text("workspace_id", primary_key=True),
    text("approval_id", primary_key=True),
    text("run_id"),
    number("attempt"),
    text("call_id"),
    text("title"),
    text("digest"),
    octets("details"),
    text("approver"),
    number("expire_time"),
    text("state"),
    text("decided_by"),
    text("note"),
    number("create_time"),
    number("decide_time"),
    text("conversation_id"),
    text("agent_id"),
    text("event_id"),
    text("item_id"),
    text("delivery_id"),
    Index("approvals_by_time", "workspace_id", "create_time", "approval_id"),
    Index("approvals_by_run", "workspace_id", "run_id"),
    Index("approvals_pending", "workspace_id", "create_time", **only(_PENDING)),
    Index("approvals_expiring", "expire_time", **only(_PENDING)),
)
