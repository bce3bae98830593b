"""Tables of users and of their ids on platforms."""

from sqlalchemy import Index, Table

from portway.server.storage_engine.columns import metadata, number, text

users = Table(
    "users",
    metadata,
    text("workspace_id", primary_key=True),
    text("user_id", primary_key=True),
    text("name"),
    text("role"),
    number("disabled"),
    number("revision"),
    number("create_time"),
    number("update_time"),
    Index("users_by_name", "workspace_id", "name", unique=True),
)

# An account on a platform is one person's.
user_actors = Table(
    "user_actors",
    metadata,
    text("workspace_id", primary_key=True),
    text("actor_id", primary_key=True),
    text("user_id"),
    Index("user_actors_by_user", "workspace_id", "user_id"),
)
