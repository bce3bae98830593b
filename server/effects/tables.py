"""Table of effects."""

from sqlalchemy import Index, Table

from portway.server.storage_engine.columns import metadata, number, octets, text

effects = Table(
    "effects",
    metadata,
    text("workspace_id", primary_key=True),
    text("effect_id", primary_key=True),
    text("run_id"),
    number("attempt"),
    text("call_id"),
    text("tool"),
    text("idempotency"),
    octets("digest"),
    text("state"),
    octets("result"),
    number("create_time"),
    number("end_time"),
    Index("effects_by_call", "workspace_id", "run_id", "call_id", unique=True),
)
