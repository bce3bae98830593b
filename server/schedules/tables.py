"""Table of schedules."""

from sqlalchemy import Index, Table

from portway.server.storage_engine.columns import metadata, number, only, text

schedules = Table(
    "schedules",
    metadata,
    text("workspace_id", primary_key=True),
    text("schedule_id", primary_key=True),
    number("revision"),
    text("managed_by"),
    text("name"),
    text("spec"),
    number("next_time"),
    number("last_time"),
    text("last_event_id"),
    text("last_run_id"),
    text("last_outcome"),
    text("last_reason"),
    number("create_time"),
    number("update_time"),
    Index("schedules_by_name", "workspace_id", "name", unique=True),
    Index("schedules_due", "next_time", **only("next_time > 0")),
)
