"""Users, kill switches, erasures; limits of workspaces, users of tokens, where a call came from."""

from alembic import op

from portway.server.storage_engine.columns import number, text

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _users()
    _switches()
    _erasures()
    op.add_column("workspaces", text("limits"))
    op.add_column("workspaces", number("delete_time"))
    op.add_column("tokens", text("user_id"))
    op.add_column("audit", text("peer"))
    # The sum of a workspace's files comes from the index alone.
    op.create_index("artifacts_by_size", "artifacts", ["workspace_id", "size"])


def _users() -> None:
    op.create_table(
        "users",
        text("workspace_id", primary_key=True),
        text("user_id", primary_key=True),
        text("name"),
        text("role"),
        number("disabled"),
        number("revision"),
        number("create_time"),
        number("update_time"),
    )
    op.create_index("users_by_name", "users", ["workspace_id", "name"], unique=True)
    op.create_table(
        "user_actors",
        text("workspace_id", primary_key=True),
        text("actor_id", primary_key=True),
        text("user_id"),
    )
    op.create_index("user_actors_by_user", "user_actors", ["workspace_id", "user_id"])


def _switches() -> None:
    op.create_table(
        "kill_switches",
        text("workspace_id", primary_key=True),
        text("kind", primary_key=True),
        text("target_id", primary_key=True),
        text("reason"),
        number("update_time"),
    )


def _erasures() -> None:
    op.create_table(
        "erasures",
        text("workspace_id", primary_key=True),
        text("erasure_id", primary_key=True),
        text("kind"),
        text("subject_id"),
        text("actor_ids"),
        text("asked_by"),
        text("asked_in"),
        number("position"),
        number("redacted"),
        number("artifacts"),
        number("create_time"),
        number("end_time"),
    )
