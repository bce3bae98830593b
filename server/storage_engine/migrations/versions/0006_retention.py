"""How far retention has come, kind by kind."""

from alembic import op

from portway.server.storage_engine.columns import number, text

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "retention_marks",
        text("workspace_id", primary_key=True),
        text("kind", primary_key=True),
        number("position"),
        number("removed"),
        number("last_removed"),
        number("update_time"),
    )
