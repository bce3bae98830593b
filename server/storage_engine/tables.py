"""The engine's own tables."""

from sqlalchemy import Table

from portway.server.storage_engine.columns import metadata, number, text

host_epochs = Table(
    "host_epochs",
    metadata,
    number("epoch", primary_key=True),
    number("process_id"),
    number("start_time"),
)

sequences = Table(
    "sequences",
    metadata,
    text("workspace_id", primary_key=True),
    text("stream", primary_key=True),
    number("value"),
)

leases = Table(
    "leases",
    metadata,
    text("workspace_id", primary_key=True),
    text("name", primary_key=True),
    text("holder"),
    number("fencing_token"),
    number("expire_time"),
    number("commits"),
)
