"""Schedules and edited messages."""

from alembic import op

from portway.server.storage_engine.columns import number, only, text

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "schedules",
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
    )
    op.create_index("schedules_by_name", "schedules", ["workspace_id", "name"], unique=True)
    op.create_index("schedules_due", "schedules", ["next_time"], **only("next_time > 0"))
    op.create_index("deliveries_sent", "deliveries", ["next_attempt_time"], **only("state = 'sent'"))
