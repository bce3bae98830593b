"""Skills."""

from alembic import op

from portway.server.storage_engine.columns import number, text

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "skills",
        text("workspace_id", primary_key=True),
        text("name", primary_key=True),
        number("revision"),
        text("description"),
        text("instructions"),
        text("source"),
        text("version"),
        text("digest"),
        number("writable"),
        number("create_time"),
        number("update_time"),
    )
    op.create_table(
        "skill_files",
        text("workspace_id", primary_key=True),
        text("name", primary_key=True),
        text("path", primary_key=True),
        text("sha256"),
        number("size"),
        number("executable"),
    )
    op.create_index("skill_files_by_blob", "skill_files", ["workspace_id", "sha256"])
    op.create_table(
        "skill_activations",
        text("workspace_id", primary_key=True),
        text("conversation_id", primary_key=True),
        text("name", primary_key=True),
        text("digest"),
        number("update_time"),
    )
    op.create_index("skill_activations_by_skill", "skill_activations", ["workspace_id", "name"])
