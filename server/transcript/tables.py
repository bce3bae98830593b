"""Tables of the transcript.

The full-text index beside it is made by the migration, because each database has its own kind.
"""

from sqlalchemy import Index, Table

from portway.server.storage_engine.columns import metadata, number, octets, row_number, text

transcript = Table(
    "transcript",
    metadata,
    row_number("item_number"),
    text("workspace_id"),
    text("conversation_id"),
    number("sequence"),
    text("item_id"),
    text("role"),
    text("kind"),
    text("text"),
    octets("content"),
    text("thread_id"),
    text("event_id"),
    text("run_id"),
    text("actor_id"),
    text("actor_name"),
    text("provider_message_id"),
    number("create_time"),
    number("edit_time"),
    number("redact_time"),
    Index("transcript_by_sequence", "workspace_id", "conversation_id", "sequence", unique=True),
    Index("transcript_by_id", "workspace_id", "item_id", unique=True),
)
