"""Table of erasures: those under way, and what those that ended came to."""

from sqlalchemy import Table

from portway.server.storage_engine.columns import metadata, number, text

erasures = Table(
    "erasures",
    metadata,
    text("workspace_id", primary_key=True),
    text("erasure_id", primary_key=True),
    text("kind"),
    text("subject_id"),
    text("actor_ids"),
    text("asked_by"),
    text("asked_in"),
    number("position"),
    number("redacted"),
    number("artifacts"),
    number("create_time"),
    number("end_time"),
)
