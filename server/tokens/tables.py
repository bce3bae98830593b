"""Table of access tokens."""

from sqlalchemy import Index, Table

from portway.server.storage_engine.columns import metadata, number, octets, text

tokens = Table(
    "tokens",
    metadata,
    text("workspace_id", primary_key=True),
    text("token_id", primary_key=True),
    text("kind"),
    text("role"),
    text("subject"),
    octets("secret_hash"),
    octets("previous_hash"),
    number("previous_expire_time"),
    text("name"),
    number("expire_time"),
    number("create_time"),
    number("revoke_time"),
    number("last_use_time"),
    text("user_id"),
    # A caller shows the id before anybody knows its workspace.
    Index("tokens_by_id", "token_id", unique=True),
)
