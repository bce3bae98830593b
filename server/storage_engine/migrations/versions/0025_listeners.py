"""Event listeners of plugins."""

from alembic import op

from portway.server.storage_engine.columns import number, only, text

revision = "0025"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "listeners",
        text("workspace_id", primary_key=True),
        text("listener_id", primary_key=True),
        number("enabled"),
        number("sequence"),
        number("delivered_count"),
        number("missed_count"),
        number("untold_count"),
        text("trouble"),
        number("update_time"),
    )
    op.create_index("listeners_enabled", "listeners", ["workspace_id", "listener_id"], **only("enabled = 1"))
