"""Table of state values.

A deleted value leaves its version behind, so that compare-and-set cannot be fooled by a re-creation.
"""

from sqlalchemy import Index, Table

from portway.server.storage_engine.columns import metadata, number, text

state = Table(
    "state",
    metadata,
    text("workspace_id", primary_key=True),
    text("agent_id", primary_key=True),
    text("scope", primary_key=True),
    text("scope_key", primary_key=True),
    text("key", primary_key=True),
    text("value_json"),
    number("version"),
    number("deleted"),
    number("update_time"),
    text("run_id"),
    Index("state_by_scope", "workspace_id", "scope", "scope_key"),
)
