"""Table of artifacts."""

from sqlalchemy import Index, Table

from portway.server.storage_engine.columns import metadata, number, only, text

_EXPIRING = "expire_time > 0"
_OF_RUN = "run_id <> ''"
_OF_EVENT = "event_id <> ''"

artifacts = Table(
    "artifacts",
    metadata,
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
    Index("artifacts_by_blob", "workspace_id", "sha256"),
    Index("artifacts_by_run", "workspace_id", "run_id", **only(_OF_RUN)),
    Index("artifacts_by_event", "workspace_id", "event_id", **only(_OF_EVENT)),
    Index("artifacts_by_time", "workspace_id", "create_time", "artifact_id"),
    Index("artifacts_by_size", "workspace_id", "size"),
    Index("artifacts_expiring", "expire_time", **only(_EXPIRING)),
)
