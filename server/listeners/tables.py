"""Table of event listeners. A row stays when a listener is disabled, so that it can go on where it was."""

from sqlalchemy import Index, Table

from portway.server.storage_engine.columns import metadata, number, only, text

listeners = Table(
    "listeners",
    metadata,
    text("workspace_id", primary_key=True),
    text("listener_id", primary_key=True),
    number("enabled"),
    number("sequence"),
    number("delivered_count"),
    number("missed_count"),
    number("untold_count"),
    text("trouble"),
    number("update_time"),
    Index("listeners_enabled", "workspace_id", "listener_id", **only("enabled = 1")),
)
