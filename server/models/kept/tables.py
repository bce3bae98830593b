"""Tables of model providers, models and prices. Keys lie among the secrets."""

from sqlalchemy import Index, Table

from portway.server.storage_engine.columns import metadata, number, only, text

model_providers = Table(
    "model_providers",
    metadata,
    text("workspace_id", primary_key=True),
    text("provider_id", primary_key=True),
    number("revision"),
    text("spec"),
    number("create_time"),
    number("update_time"),
)

models = Table(
    "models",
    metadata,
    text("workspace_id", primary_key=True),
    text("model_id", primary_key=True),
    text("provider_id"),
    number("revision"),
    number("is_default"),
    text("spec"),
    number("create_time"),
    number("update_time"),
    Index("models_by_provider", "workspace_id", "provider_id"),
    Index("models_default", "workspace_id", unique=True, **only("is_default = 1")),
)

model_prices = Table(
    "model_prices",
    metadata,
    text("workspace_id", primary_key=True),
    number("revision"),
    text("prices"),
    number("update_time"),
)
