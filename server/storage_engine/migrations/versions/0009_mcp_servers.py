"""MCP servers."""

from alembic import op

from portway.server.storage_engine.columns import number, text

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "mcp_servers",
        text("workspace_id", primary_key=True),
        text("server_id", primary_key=True),
        number("revision"),
        text("managed_by"),
        text("spec"),
        number("create_time"),
        number("update_time"),
    )
