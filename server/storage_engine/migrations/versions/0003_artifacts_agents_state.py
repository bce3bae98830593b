"""Artifacts, state, storage, agents, bindings, secrets."""

from alembic import op

from portway.server.storage_engine.columns import number, octets, only, text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _artifacts()
    _state()
    _storage()
    _agents()
    _bindings()
    _secrets()
    _adapters()
    _adapter_cursors()


def _artifacts() -> None:
    op.create_table(
        "artifacts",
        text("workspace_id", primary_key=True),
        text("artifact_id", primary_key=True),
        text("name"),
        text("mime_type"),
        text("kind"),
        number("size"),
        text("sha256"),
        text("summary"),
        text("event_id"),
        text("run_id"),
        text("conversation_id"),
        text("creator"),
        number("expire_time"),
        number("create_time"),
    )
    op.create_index("artifacts_by_blob", "artifacts", ["workspace_id", "sha256"])
    op.create_index("artifacts_by_event", "artifacts", ["workspace_id", "event_id"], **only("event_id <> ''"))
    op.create_index("artifacts_by_run", "artifacts", ["workspace_id", "run_id"], **only("run_id <> ''"))
    op.create_index("artifacts_by_time", "artifacts", ["workspace_id", "create_time", "artifact_id"])
    op.create_index("artifacts_expiring", "artifacts", ["expire_time"], **only("expire_time > 0"))


def _state() -> None:
    op.create_table(
        "state",
        text("workspace_id", primary_key=True),
        text("agent_id", primary_key=True),
        text("scope", primary_key=True),
        text("scope_key", primary_key=True),
        text("key", primary_key=True),
        text("value_json"),
        number("version"),
        number("deleted"),
        number("update_time"),
        text("run_id"),
    )


def _storage() -> None:
    op.create_table(
        "storage",
        text("workspace_id", primary_key=True),
        text("area", primary_key=True),
        text("owner_id", primary_key=True),
        text("key", primary_key=True),
        number("size"),
        text("sha256"),
        octets("value"),
        number("version"),
        number("deleted"),
        number("update_time"),
    )
    op.create_index("storage_by_blob", "storage", ["workspace_id", "sha256"], **only("sha256 <> ''"))


def _agents() -> None:
    op.create_table(
        "agents",
        text("workspace_id", primary_key=True),
        text("agent_id", primary_key=True),
        number("revision"),
        text("managed_by"),
        text("name"),
        text("spec"),
        number("create_time"),
        number("update_time"),
    )
    op.create_index("agents_by_name", "agents", ["workspace_id", "name"], unique=True)


def _bindings() -> None:
    op.create_table(
        "bindings",
        text("workspace_id", primary_key=True),
        text("binding_id", primary_key=True),
        number("revision"),
        text("managed_by"),
        text("agent_id"),
        text("spec"),
        number("create_time"),
        number("update_time"),
    )
    op.create_index("bindings_by_agent", "bindings", ["workspace_id", "agent_id"])


def _secrets() -> None:
    op.create_table(
        "secrets",
        text("workspace_id", primary_key=True),
        text("secret_id", primary_key=True),
        text("key_id"),
        octets("ciphertext"),
        number("update_time"),
    )
    op.create_index("secrets_by_key", "secrets", ["key_id"])


def _adapters() -> None:
    op.create_table(
        "adapters",
        text("workspace_id", primary_key=True),
        text("adapter_id", primary_key=True),
        text("platform"),
        text("version"),
        text("surfaces"),
        number("generation"),
        number("change_time"),
    )


def _adapter_cursors() -> None:
    op.create_table(
        "adapter_cursors",
        text("workspace_id", primary_key=True),
        text("adapter_id", primary_key=True),
        text("name", primary_key=True),
        text("value"),
        number("update_time"),
    )
