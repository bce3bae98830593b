"""Table of the event log."""

from sqlalchemy import Index, Table

from portway.server.storage_engine.columns import metadata, number, octets, only, text

events = Table(
    "events",
    metadata,
    text("workspace_id", primary_key=True),
    text("event_id", primary_key=True),
    number("sequence"),
    text("source"),
    text("dedupe_key"),
    octets("body_hash"),
    text("type"),
    number("event_time"),
    number("accept_time"),
    octets("payload"),
    text("summary"),
    text("actor_id"),
    text("conversation_id"),
    text("item_id"),
    text("provider_message_id"),
    text("raw_ref"),
    text("outcome"),
    text("outcome_reason"),
    text("run_id"),
    text("trace_id"),
    Index("events_by_key", "workspace_id", "source", "dedupe_key", unique=True),
    Index("events_by_sequence", "workspace_id", "sequence", unique=True),
    Index("events_by_conversation", "workspace_id", "conversation_id", "sequence"),
    Index(
        "events_by_provider_message",
        "workspace_id",
        "conversation_id",
        "provider_message_id",
        **only("provider_message_id <> ''"),
    ),
)
