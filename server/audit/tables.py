"""Table of audit records."""

from sqlalchemy import Index, Table

from portway.server.storage_engine.columns import metadata, number, only, text

_OF_RUN = "run_id <> ''"

audit = Table(
    "audit",
    metadata,
    text("workspace_id", primary_key=True),
    number("sequence", primary_key=True),
    number("time"),
    text("action"),
    text("resource"),
    number("allowed"),
    text("reason"),
    text("role"),
    text("subject"),
    text("token_id"),
    text("run_id"),
    text("runner_id"),
    text("scope"),
    text("trace_id"),
    text("details"),
    text("peer"),
    Index("audit_by_run", "workspace_id", "run_id", "sequence", **only(_OF_RUN)),
)
