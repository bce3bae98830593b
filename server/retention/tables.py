"""Table of retention: how far each kind has come, so that a pass never reads again what an earlier one has read."""

from sqlalchemy import Table

from portway.server.storage_engine.columns import metadata, number, text

retention_marks = Table(
    "retention_marks",
    metadata,
    text("workspace_id", primary_key=True),
    text("kind", primary_key=True),
    number("position"),
    number("removed"),
    number("last_removed"),
    number("update_time"),
)
