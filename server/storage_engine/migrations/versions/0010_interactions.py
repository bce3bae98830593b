"""Questions to people."""

from alembic import op

from portway.server.storage_engine.columns import number, octets, only, text

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _interactions()
    _approvals()


def _interactions() -> None:
    op.create_table(
        "interactions",
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
    )
    op.create_index("interactions_by_time", "interactions", ["workspace_id", "create_time", "run_id"])
    op.create_index("interactions_by_conversation", "interactions", ["workspace_id", "conversation_id", "create_time"])
    op.create_index("interactions_expiring", "interactions", ["expire_time"], **only("state = 'open'"))


def _approvals() -> None:
    for name in ("conversation_id", "agent_id", "event_id", "item_id", "delivery_id"):
        op.add_column("approvals", text(name))
    op.create_index("approvals_by_time", "approvals", ["workspace_id", "create_time", "approval_id"])
