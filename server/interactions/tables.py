"""Table of questions."""

from sqlalchemy import Index, Table

from portway.server.storage_engine.columns import metadata, number, octets, only, text

interactions = Table(
    "interactions",
    metadata,
    text("workspace_id", primary_key=True),
    text("run_id", primary_key=True),
    text("interaction_id", primary_key=True),
    text("conversation_id"),
    text("event_id"),
    text("agent_id"),
    text("actor_id"),
    octets("request"),
    text("item_id"),
    text("delivery_id"),
    number("expire_time"),
    text("state"),
    octets("answer"),
    text("request_id"),
    text("answer_event_id"),
    text("answer_run_id"),
    number("create_time"),
    number("end_time"),
    Index("interactions_by_time", "workspace_id", "create_time", "run_id"),
    Index("interactions_by_conversation", "workspace_id", "conversation_id", "create_time"),
    Index("interactions_expiring", "expire_time", **only("state = 'open'")),
)
