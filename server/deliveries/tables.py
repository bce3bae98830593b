"""Table of the outbox."""

from sqlalchemy import Index, Table

from portway.server.storage_engine.columns import metadata, number, octets, only, text

deliveries = Table(
    "deliveries",
    metadata,
    text("workspace_id", primary_key=True),
    text("delivery_id", primary_key=True),
    text("conversation_id"),
    text("surface"),
    text("bot_id"),
    octets("target"),
    octets("payload"),
    text("event_id"),
    text("run_id"),
    number("expire_time"),
    number("sequence"),
    text("state"),
    number("attempts"),
    number("next_attempt_time"),
    text("provider_message_id"),
    text("error_code"),
    text("error_message"),
    number("create_time"),
    number("end_time"),
    Index("deliveries_by_sequence", "workspace_id", "conversation_id", "sequence", unique=True),
    Index("deliveries_by_time", "workspace_id", "create_time", "delivery_id"),
    Index("deliveries_by_run", "workspace_id", "run_id", **only("run_id <> ''")),
    Index(
        "deliveries_pending",
        "workspace_id",
        "surface",
        "bot_id",
        "conversation_id",
        "sequence",
        **only("state = 'pending'"),
    ),
    Index("deliveries_sent", "next_attempt_time", **only("state = 'sent'")),
    Index("deliveries_stuck", "workspace_id", "state", **only("state IN ('unknown', 'failed', 'dead_letter')")),
)
