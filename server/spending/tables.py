"""Table of what was spent."""

from sqlalchemy import Index, Table

from portway.server.storage_engine.columns import metadata, number, text

spending = Table(
    "spending",
    metadata,
    text("workspace_id", primary_key=True),
    text("run_id", primary_key=True),
    number("attempt", primary_key=True),
    number("day", primary_key=True),
    text("model_id", primary_key=True),
    text("agent_id"),
    text("conversation_id"),
    text("currency"),
    number("cost_micros"),
    number("input_tokens"),
    number("output_tokens"),
    number("calls"),
    number("bytes"),
    number("time_micros"),
    number("unpriced_calls"),
    number("update_time"),
    Index("spending_by_day", "workspace_id", "day"),
    Index("spending_by_agent", "workspace_id", "agent_id", "day"),
    Index("spending_by_conversation", "workspace_id", "conversation_id", "day"),
)
