"""Table of agents."""

from sqlalchemy import Index, Table

from portway.server.storage_engine.columns import metadata, number, text

agents = Table(
    "agents",
    metadata,
    text("workspace_id", primary_key=True),
    text("agent_id", primary_key=True),
    number("revision"),
    text("managed_by"),
    text("name"),
    text("spec"),
    number("create_time"),
    number("update_time"),
    Index("agents_by_name", "workspace_id", "name", unique=True),
)
