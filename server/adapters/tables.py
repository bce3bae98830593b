"""Tables of adapters: which connection is the newest, and what each adapter asked the host to remember."""

from sqlalchemy import Table

from portway.server.storage_engine.columns import metadata, number, text

adapters = Table(
    "adapters",
    metadata,
    text("workspace_id", primary_key=True),
    text("adapter_id", primary_key=True),
    text("platform"),
    text("version"),
    text("surfaces"),
    number("generation"),
    number("change_time"),
)

adapter_cursors = Table(
    "adapter_cursors",
    metadata,
    text("workspace_id", primary_key=True),
    text("adapter_id", primary_key=True),
    text("name", primary_key=True),
    text("value"),
    number("update_time"),
)
