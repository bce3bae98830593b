"""First tables: the engine's own, workspaces, events, conversations, transcript."""

from alembic import op

from portway.server.storage_engine.columns import number, octets, only, row_number, text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _host_epochs()
    _sequences()
    _leases()
    _workspaces()
    _tokens()
    _audit()
    _events()
    _conversations()
    _chats()
    _transcript()
    _transcript_search()


def _host_epochs() -> None:
    op.create_table(
        "host_epochs",
        number("epoch", primary_key=True),
        number("process_id"),
        number("start_time"),
    )


def _sequences() -> None:
    op.create_table(
        "sequences",
        text("workspace_id", primary_key=True),
        text("stream", primary_key=True),
        number("value"),
    )


def _leases() -> None:
    op.create_table(
        "leases",
        text("workspace_id", primary_key=True),
        text("name", primary_key=True),
        text("holder"),
        number("fencing_token"),
        number("expire_time"),
    )


def _workspaces() -> None:
    op.create_table(
        "workspaces",
        text("workspace_id", primary_key=True),
        text("name"),
        number("disabled"),
        number("revision"),
        number("create_time"),
        number("update_time"),
    )


def _tokens() -> None:
    op.create_table(
        "tokens",
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
    )
    op.create_index("tokens_by_id", "tokens", ["token_id"], unique=True)


def _audit() -> None:
    op.create_table(
        "audit",
        text("workspace_id", primary_key=True),
        number("sequence", primary_key=True),
        number("time"),
        text("action"),
        text("resource"),
        number("allowed"),
        text("reason"),
        text("role"),
        text("subject"),
        text("token_id"),
        text("run_id"),
        text("runner_id"),
        text("scope"),
        text("trace_id"),
        text("details"),
    )
    op.create_index("audit_by_run", "audit", ["workspace_id", "run_id", "sequence"], **only("run_id <> ''"))


def _events() -> None:
    op.create_table(
        "events",
        text("workspace_id", primary_key=True),
        text("event_id", primary_key=True),
        number("sequence"),
        text("source"),
        text("dedupe_key"),
        octets("body_hash"),
        text("type"),
        number("event_time"),
        number("accept_time"),
        octets("payload"),
        text("summary"),
        text("actor_id"),
        text("conversation_id"),
        text("item_id"),
        text("provider_message_id"),
        text("raw_ref"),
        text("outcome"),
        text("outcome_reason"),
        text("run_id"),
        text("trace_id"),
    )
    op.create_index("events_by_conversation", "events", ["workspace_id", "conversation_id", "sequence"])
    op.create_index("events_by_key", "events", ["workspace_id", "source", "dedupe_key"], unique=True)
    op.create_index(
        "events_by_provider_message",
        "events",
        ["workspace_id", "conversation_id", "provider_message_id"],
        **only("provider_message_id <> ''"),
    )
    op.create_index("events_by_sequence", "events", ["workspace_id", "sequence"], unique=True)


def _conversations() -> None:
    op.create_table(
        "conversations",
        text("workspace_id", primary_key=True),
        text("conversation_id", primary_key=True),
        text("chat_key"),
        text("surface"),
        text("bot_id"),
        text("channel_id"),
        text("launcher_type"),
        text("launcher_id"),
        text("thread_id"),
        text("reply_target"),
        text("title"),
        text("forked_from"),
        number("forked_at"),
        text("state"),
        number("last_sequence"),
        number("create_time"),
        number("last_active_time"),
        number("close_time"),
    )
    op.create_index(
        "conversations_by_activity", "conversations", ["workspace_id", "last_active_time", "conversation_id"]
    )
    op.create_index("conversations_by_chat", "conversations", ["workspace_id", "chat_key", "create_time"])


def _chats() -> None:
    op.create_table(
        "chats",
        text("workspace_id", primary_key=True),
        text("chat_key", primary_key=True),
        text("conversation_id"),
    )


def _transcript() -> None:
    op.create_table(
        "transcript",
        row_number("item_number"),
        text("workspace_id"),
        text("conversation_id"),
        number("sequence"),
        text("item_id"),
        text("role"),
        text("kind"),
        text("text"),
        octets("content"),
        text("thread_id"),
        text("event_id"),
        text("run_id"),
        text("actor_id"),
        text("actor_name"),
        text("provider_message_id"),
        number("create_time"),
        number("edit_time"),
        number("redact_time"),
    )
    op.create_index("transcript_by_id", "transcript", ["workspace_id", "item_id"], unique=True)
    op.create_index(
        "transcript_by_sequence", "transcript", ["workspace_id", "conversation_id", "sequence"], unique=True
    )


def _transcript_search() -> None:
    # PostgreSQL's index is of revision 0004.
    if op.get_context().dialect.name != "sqlite":
        return
    # The application cuts the text into terms itself: the tokenizer only splits at spaces and leaves the rest alone.
    op.execute(
        "CREATE VIRTUAL TABLE transcript_search USING fts5("
        "scope, terms, tokenize = \"unicode61 remove_diacritics 0 categories 'L* M* N* Co S* P*'\")"
    )
