"""Table of secrets."""

from sqlalchemy import Index, Table

from portway.server.storage_engine.columns import metadata, number, octets, text

secrets = Table(
    "secrets",
    metadata,
    text("workspace_id", primary_key=True),
    text("secret_id", primary_key=True),
    text("key_id"),
    octets("ciphertext"),
    number("update_time"),
    Index("secrets_by_key", "key_id"),
)
