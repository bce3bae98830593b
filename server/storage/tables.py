"""Table of stored objects."""

from sqlalchemy import Index, Table

from portway.server.storage_engine.columns import metadata, number, octets, only, text

_IN_BLOB = "sha256 <> ''"

storage = Table(
    "storage",
    metadata,
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
    Index("storage_by_blob", "workspace_id", "sha256", **only(_IN_BLOB)),
)
