"""Table of kill switches. A row is a switch that is on."""

from sqlalchemy import Table

from portway.server.storage_engine.columns import metadata, number, text

kill_switches = Table(
    "kill_switches",
    metadata,
    text("workspace_id", primary_key=True),
    text("kind", primary_key=True),
    text("target_id", primary_key=True),
    text("reason"),
    number("update_time"),
)
