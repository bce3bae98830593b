"""Model providers, models and prices."""

from alembic import op

from portway.server.storage_engine.columns import number, only, text

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "model_providers",
        text("workspace_id", primary_key=True),
        text("provider_id", primary_key=True),
        number("revision"),
        text("spec"),
        number("create_time"),
        number("update_time"),
    )
    op.create_table(
        "models",
        text("workspace_id", primary_key=True),
        text("model_id", primary_key=True),
        text("provider_id"),
        number("revision"),
        number("is_default"),
        text("spec"),
        number("create_time"),
        number("update_time"),
    )
    op.create_index("models_by_provider", "models", ["workspace_id", "provider_id"])
    op.create_index("models_default", "models", ["workspace_id"], unique=True, **only("is_default = 1"))
    op.create_table(
        "model_prices",
        text("workspace_id", primary_key=True),
        number("revision"),
        text("prices"),
        number("update_time"),
    )
