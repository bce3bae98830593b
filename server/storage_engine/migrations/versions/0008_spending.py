"""What was spent."""

from alembic import op

from portway.server.storage_engine.columns import number, text

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "spending",
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
    )
    op.create_index("spending_by_day", "spending", ["workspace_id", "day"])
    op.create_index("spending_by_agent", "spending", ["workspace_id", "agent_id", "day"])
    op.create_index("spending_by_conversation", "spending", ["workspace_id", "conversation_id", "day"])
