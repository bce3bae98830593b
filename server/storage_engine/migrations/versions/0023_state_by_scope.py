"""Finds what agents keep of a conversation without knowing the agents."""

from alembic import op

revision = "0023"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("state_by_scope", "state", ["workspace_id", "scope", "scope_key"])
