"""Tables of runs."""

from sqlalchemy import Index, Table

from portway.server.storage_engine.columns import metadata, number, octets, only, optional_number, text

_OPEN = "state IN ('queued', 'running', 'waiting')"

runs = Table(
    "runs",
    metadata,
    text("workspace_id", primary_key=True),
    text("run_id", primary_key=True),
    text("event_id"),
    number("event_sequence"),
    text("conversation_id"),
    text("agent_id"),
    number("agent_revision"),
    text("binding_id"),
    text("runner_id"),
    text("queue_policy"),
    text("parent_run_id"),
    text("trace_id"),
    number("available_time"),
    text("state"),
    number("attempt"),
    number("epoch"),
    number("last_sequence"),
    number("create_time"),
    number("start_time"),
    number("end_time"),
    number("deadline"),
    number("cancel_time"),
    text("cancel_reason"),
    text("finish_reason"),
    text("error_code"),
    text("error_message"),
    number("retryable"),
    optional_number("input_tokens"),
    optional_number("output_tokens"),
    optional_number("cached_tokens"),
    optional_number("reasoning_tokens"),
    optional_number("cost_micros"),
    text("currency"),
    text("model_id"),
    text("price_version"),
    Index("runs_by_sequence", "workspace_id", "event_sequence", "run_id"),
    Index("runs_by_conversation", "workspace_id", "conversation_id", "event_sequence"),
    Index("runs_by_event", "workspace_id", "event_id"),
    Index("runs_open_of_conversation", "workspace_id", "conversation_id", **only(_OPEN)),
    Index("runs_open", "workspace_id", "event_sequence", "run_id", **only(_OPEN)),
)

run_snapshots = Table(
    "run_snapshots",
    metadata,
    text("workspace_id", primary_key=True),
    text("run_id", primary_key=True),
    octets("snapshot"),
    octets("context"),
    octets("sha256"),
    number("create_time"),
)

_LIVE = "state = 'live'"

run_attempts = Table(
    "run_attempts",
    metadata,
    text("workspace_id", primary_key=True),
    text("run_id", primary_key=True),
    number("attempt", primary_key=True),
    number("epoch"),
    text("state"),
    text("token_id"),
    octets("token_hash"),
    text("plugin_id"),
    text("runtime_generation"),
    number("start_time"),
    number("end_time"),
    text("outcome"),
    Index("run_attempts_by_token", "token_id", unique=True),
    Index("run_attempts_one_live", "workspace_id", "run_id", unique=True, **only(_LIVE)),
)

run_events = Table(
    "run_events",
    metadata,
    text("workspace_id", primary_key=True),
    text("run_id", primary_key=True),
    number("sequence", primary_key=True),
    number("attempt"),
    text("kind"),
    octets("payload"),
    number("runner_first"),
    number("runner_last"),
    number("create_time"),
)

run_steers = Table(
    "run_steers",
    metadata,
    text("workspace_id", primary_key=True),
    text("run_id", primary_key=True),
    number("position", primary_key=True),
    text("steering_id"),
    text("event_id"),
    text("state"),
    octets("payload"),
    number("create_time"),
    number("end_time"),
)
