"""Runs, their ledger and effects, approvals, and the outbox."""

from alembic import op

from portway.server.storage_engine.columns import number, octets, only, optional_number, text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _runs()
    _run_snapshots()
    _run_attempts()
    _run_events()
    _run_steers()
    _effects()
    _approvals()
    _deliveries()


def _runs() -> None:
    op.create_table(
        "runs",
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
    )
    op.create_index("runs_by_conversation", "runs", ["workspace_id", "conversation_id", "event_sequence"])
    op.create_index("runs_by_event", "runs", ["workspace_id", "event_id"])
    op.create_index("runs_by_sequence", "runs", ["workspace_id", "event_sequence", "run_id"])
    op.create_index(
        "runs_open_of_conversation",
        "runs",
        ["workspace_id", "conversation_id"],
        **only("state IN ('queued', 'running', 'waiting')"),
    )
    op.create_index(
        "runs_open",
        "runs",
        ["workspace_id", "event_sequence", "run_id"],
        **only("state IN ('queued', 'running', 'waiting')"),
    )


def _run_snapshots() -> None:
    op.create_table(
        "run_snapshots",
        text("workspace_id", primary_key=True),
        text("run_id", primary_key=True),
        octets("snapshot"),
        octets("context"),
        octets("sha256"),
        number("create_time"),
    )


def _run_attempts() -> None:
    op.create_table(
        "run_attempts",
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
    )
    op.create_index("run_attempts_by_token", "run_attempts", ["token_id"], unique=True)
    op.create_index(
        "run_attempts_one_live", "run_attempts", ["workspace_id", "run_id"], unique=True, **only("state = 'live'")
    )


def _run_events() -> None:
    op.create_table(
        "run_events",
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


def _run_steers() -> None:
    op.create_table(
        "run_steers",
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


def _effects() -> None:
    op.create_table(
        "effects",
        text("workspace_id", primary_key=True),
        text("effect_id", primary_key=True),
        text("run_id"),
        number("attempt"),
        text("call_id"),
        text("tool"),
        text("idempotency"),
        octets("digest"),
        text("state"),
        octets("result"),
        number("create_time"),
        number("end_time"),
    )
    op.create_index("effects_by_call", "effects", ["workspace_id", "run_id", "call_id"], unique=True)


def _approvals() -> None:
    op.create_table(
        "approvals",
        text("workspace_id", primary_key=True),
        text("approval_id", primary_key=True),
        text("run_id"),
        number("attempt"),
        text("call_id"),
        text("title"),
        text("digest"),
        octets("details"),
        text("approver"),
        number("expire_time"),
        text("state"),
        text("decided_by"),
        text("note"),
        number("create_time"),
        number("decide_time"),
    )
    op.create_index("approvals_by_run", "approvals", ["workspace_id", "run_id"])
    op.create_index("approvals_expiring", "approvals", ["expire_time"], **only("state = 'pending'"))
    op.create_index("approvals_pending", "approvals", ["workspace_id", "create_time"], **only("state = 'pending'"))


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        text("workspace_id", primary_key=True),
        text("delivery_id", primary_key=True),
        text("conversation_id"),
        text("surface"),
        text("bot_id"),
        octets("target"),
        octets("payload"),
        text("event_id"),
        text("run_id"),
        number("expire_time"),
        number("sequence"),
        text("state"),
        number("attempts"),
        number("next_attempt_time"),
        text("provider_message_id"),
        text("error_code"),
        text("error_message"),
        number("create_time"),
        number("end_time"),
    )
    op.create_index("deliveries_by_run", "deliveries", ["workspace_id", "run_id"], **only("run_id <> ''"))
    op.create_index(
        "deliveries_by_sequence", "deliveries", ["workspace_id", "conversation_id", "sequence"], unique=True
    )
    op.create_index("deliveries_by_time", "deliveries", ["workspace_id", "create_time", "delivery_id"])
    op.create_index(
        "deliveries_pending",
        "deliveries",
        ["workspace_id", "surface", "bot_id", "conversation_id", "sequence"],
        **only("state = 'pending'"),
    )
    op.create_index(
        "deliveries_stuck",
        "deliveries",
        ["workspace_id", "state"],
        **only("state IN ('unknown', 'failed', 'dead_letter')"),
    )
