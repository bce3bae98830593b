"""Table of bindings."""

from sqlalchemy import Index, Table

from portway.server.storage_engine.columns import metadata, number, text

bindings = Table(
    "bindings",
    metadata,
    text("workspace_id", primary_key=True),
    text("binding_id", primary_key=True),
    number("revision"),
    text("managed_by"),
    text("agent_id"),
    text("spec"),
    number("create_time"),
    number("update_time"),
    Index("bindings_by_agent", "workspace_id", "agent_id"),
)
