"""Table of workspaces."""

from sqlalchemy import Table

from portway.server.storage_engine.columns import metadata, number, text

workspaces = Table(
    "workspaces",
    metadata,
    text("workspace_id", primary_key=True),
    text("name"),
    number("disabled"),
    number("revision"),
    number("create_time"),
    number("update_time"),
    text("limits"),
    number("delete_time"),
)
