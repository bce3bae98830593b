"""Tables of skills."""

from sqlalchemy import Index, Table

from portway.server.storage_engine.columns import metadata, number, text

skills = Table(
    "skills",
    metadata,
    text("workspace_id", primary_key=True),
    text("name", primary_key=True),
    number("revision"),
    text("description"),
    text("instructions"),
    text("source"),
    text("version"),
    text("digest"),
    number("writable"),
    number("create_time"),
    number("update_time"),
)

skill_files = Table(
    "skill_files",
    metadata,
    text("workspace_id", primary_key=True),
    text("name", primary_key=True),
    text("path", primary_key=True),
    text("sha256"),
    number("size"),
    number("executable"),
    Index("skill_files_by_blob", "workspace_id", "sha256"),
)

skill_activations = Table(
    "skill_activations",
    metadata,
    text("workspace_id", primary_key=True),
    text("conversation_id", primary_key=True),
    text("name", primary_key=True),
    text("digest"),
    number("update_time"),
    Index("skill_activations_by_skill", "workspace_id", "name"),
)
