-- made from revisions 1024200954f6d3fe90bed4334c0d41c92acd0801bb8c735e73969fcc63e912b5
CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE host_epochs (
    epoch BIGINT NOT NULL,
    process_id BIGINT DEFAULT '0' NOT NULL,
    start_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (epoch)
);
CREATE TABLE sequences (
    workspace_id TEXT COLLATE "C" NOT NULL,
    stream TEXT COLLATE "C" NOT NULL,
    value BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, stream)
);
CREATE TABLE leases (
    workspace_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    holder TEXT COLLATE "C" DEFAULT '' NOT NULL,
    fencing_token BIGINT DEFAULT '0' NOT NULL,
    expire_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, name)
);
CREATE TABLE workspaces (
    workspace_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" DEFAULT '' NOT NULL,
    disabled BIGINT DEFAULT '0' NOT NULL,
    revision BIGINT DEFAULT '0' NOT NULL,
    create_time BIGINT DEFAULT '0' NOT NULL,
    update_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id)
);
CREATE TABLE tokens (
    workspace_id TEXT COLLATE "C" NOT NULL,
    token_id TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" DEFAULT '' NOT NULL,
    role TEXT COLLATE "C" DEFAULT '' NOT NULL,
    subject TEXT COLLATE "C" DEFAULT '' NOT NULL,
    secret_hash BYTEA NOT NULL,
    previous_hash BYTEA NOT NULL,
    previous_expire_time BIGINT DEFAULT '0' NOT NULL,
    name TEXT COLLATE "C" DEFAULT '' NOT NULL,
    expire_time BIGINT DEFAULT '0' NOT NULL,
    create_time BIGINT DEFAULT '0' NOT NULL,
    revoke_time BIGINT DEFAULT '0' NOT NULL,
    last_use_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, token_id)
);
CREATE UNIQUE INDEX tokens_by_id ON tokens (token_id);
CREATE TABLE audit (
    workspace_id TEXT COLLATE "C" NOT NULL,
    sequence BIGINT NOT NULL,
    time BIGINT DEFAULT '0' NOT NULL,
    action TEXT COLLATE "C" DEFAULT '' NOT NULL,
    resource TEXT COLLATE "C" DEFAULT '' NOT NULL,
    allowed BIGINT DEFAULT '0' NOT NULL,
    reason TEXT COLLATE "C" DEFAULT '' NOT NULL,
    role TEXT COLLATE "C" DEFAULT '' NOT NULL,
    subject TEXT COLLATE "C" DEFAULT '' NOT NULL,
    token_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    run_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    runner_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    scope TEXT COLLATE "C" DEFAULT '' NOT NULL,
    trace_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    details TEXT COLLATE "C" DEFAULT '' NOT NULL,
    PRIMARY KEY (workspace_id, sequence)
);
CREATE INDEX audit_by_run ON audit (workspace_id, run_id, sequence) WHERE run_id <> '';
CREATE TABLE events (
    workspace_id TEXT COLLATE "C" NOT NULL,
    event_id TEXT COLLATE "C" NOT NULL,
    sequence BIGINT DEFAULT '0' NOT NULL,
    source TEXT COLLATE "C" DEFAULT '' NOT NULL,
    dedupe_key TEXT COLLATE "C" DEFAULT '' NOT NULL,
    body_hash BYTEA NOT NULL,
    type TEXT COLLATE "C" DEFAULT '' NOT NULL,
    event_time BIGINT DEFAULT '0' NOT NULL,
    accept_time BIGINT DEFAULT '0' NOT NULL,
    payload BYTEA NOT NULL,
    summary TEXT COLLATE "C" DEFAULT '' NOT NULL,
    actor_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    conversation_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    item_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    provider_message_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    raw_ref TEXT COLLATE "C" DEFAULT '' NOT NULL,
    outcome TEXT COLLATE "C" DEFAULT '' NOT NULL,
    outcome_reason TEXT COLLATE "C" DEFAULT '' NOT NULL,
    run_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    trace_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    PRIMARY KEY (workspace_id, event_id)
);
CREATE INDEX events_by_conversation ON events (workspace_id, conversation_id, sequence);
CREATE UNIQUE INDEX events_by_key ON events (workspace_id, source, dedupe_key);
CREATE INDEX events_by_provider_message ON events (workspace_id, conversation_id, provider_message_id) WHERE provider_message_id <> '';
CREATE UNIQUE INDEX events_by_sequence ON events (workspace_id, sequence);
CREATE TABLE conversations (
    workspace_id TEXT COLLATE "C" NOT NULL,
    conversation_id TEXT COLLATE "C" NOT NULL,
    chat_key TEXT COLLATE "C" DEFAULT '' NOT NULL,
    surface TEXT COLLATE "C" DEFAULT '' NOT NULL,
    bot_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    channel_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    launcher_type TEXT COLLATE "C" DEFAULT '' NOT NULL,
    launcher_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    thread_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    reply_target TEXT COLLATE "C" DEFAULT '' NOT NULL,
    title TEXT COLLATE "C" DEFAULT '' NOT NULL,
    forked_from TEXT COLLATE "C" DEFAULT '' NOT NULL,
    forked_at BIGINT DEFAULT '0' NOT NULL,
    state TEXT COLLATE "C" DEFAULT '' NOT NULL,
    last_sequence BIGINT DEFAULT '0' NOT NULL,
    create_time BIGINT DEFAULT '0' NOT NULL,
    last_active_time BIGINT DEFAULT '0' NOT NULL,
    close_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, conversation_id)
);
CREATE INDEX conversations_by_activity ON conversations (workspace_id, last_active_time, conversation_id);
CREATE INDEX conversations_by_chat ON conversations (workspace_id, chat_key, create_time);
CREATE TABLE chats (
    workspace_id TEXT COLLATE "C" NOT NULL,
    chat_key TEXT COLLATE "C" NOT NULL,
    conversation_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    PRIMARY KEY (workspace_id, chat_key)
);
CREATE TABLE transcript (
    item_number BIGSERIAL NOT NULL,
    workspace_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    conversation_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    sequence BIGINT DEFAULT '0' NOT NULL,
    item_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    role TEXT COLLATE "C" DEFAULT '' NOT NULL,
    kind TEXT COLLATE "C" DEFAULT '' NOT NULL,
    text TEXT COLLATE "C" DEFAULT '' NOT NULL,
    content BYTEA NOT NULL,
    thread_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    event_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    run_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    actor_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    actor_name TEXT COLLATE "C" DEFAULT '' NOT NULL,
    provider_message_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    create_time BIGINT DEFAULT '0' NOT NULL,
    edit_time BIGINT DEFAULT '0' NOT NULL,
    redact_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (item_number)
);
CREATE UNIQUE INDEX transcript_by_id ON transcript (workspace_id, item_id);
CREATE UNIQUE INDEX transcript_by_sequence ON transcript (workspace_id, conversation_id, sequence);
INSERT INTO alembic_version (version_num) VALUES ('0001') RETURNING alembic_version.version_num;
CREATE TABLE runs (
    workspace_id TEXT COLLATE "C" NOT NULL,
    run_id TEXT COLLATE "C" NOT NULL,
    event_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    event_sequence BIGINT DEFAULT '0' NOT NULL,
    conversation_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    agent_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    agent_revision BIGINT DEFAULT '0' NOT NULL,
    binding_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    runner_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    queue_policy TEXT COLLATE "C" DEFAULT '' NOT NULL,
    parent_run_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    trace_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    available_time BIGINT DEFAULT '0' NOT NULL,
    state TEXT COLLATE "C" DEFAULT '' NOT NULL,
    attempt BIGINT DEFAULT '0' NOT NULL,
    epoch BIGINT DEFAULT '0' NOT NULL,
    last_sequence BIGINT DEFAULT '0' NOT NULL,
    create_time BIGINT DEFAULT '0' NOT NULL,
    start_time BIGINT DEFAULT '0' NOT NULL,
    end_time BIGINT DEFAULT '0' NOT NULL,
    deadline BIGINT DEFAULT '0' NOT NULL,
    cancel_time BIGINT DEFAULT '0' NOT NULL,
    cancel_reason TEXT COLLATE "C" DEFAULT '' NOT NULL,
    finish_reason TEXT COLLATE "C" DEFAULT '' NOT NULL,
    error_code TEXT COLLATE "C" DEFAULT '' NOT NULL,
    error_message TEXT COLLATE "C" DEFAULT '' NOT NULL,
    retryable BIGINT DEFAULT '0' NOT NULL,
    input_tokens BIGINT,
    output_tokens BIGINT,
    cached_tokens BIGINT,
    reasoning_tokens BIGINT,
    cost_micros BIGINT,
    currency TEXT COLLATE "C" DEFAULT '' NOT NULL,
    model_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    price_version TEXT COLLATE "C" DEFAULT '' NOT NULL,
    PRIMARY KEY (workspace_id, run_id)
);
CREATE INDEX runs_by_conversation ON runs (workspace_id, conversation_id, event_sequence);
CREATE INDEX runs_by_event ON runs (workspace_id, event_id);
CREATE INDEX runs_by_sequence ON runs (workspace_id, event_sequence, run_id);
CREATE INDEX runs_open_of_conversation ON runs (workspace_id, conversation_id) WHERE state IN ('queued', 'running', 'waiting');
CREATE INDEX runs_open ON runs (workspace_id, event_sequence, run_id) WHERE state IN ('queued', 'running', 'waiting');
CREATE TABLE run_snapshots (
    workspace_id TEXT COLLATE "C" NOT NULL,
    run_id TEXT COLLATE "C" NOT NULL,
    snapshot BYTEA NOT NULL,
    context BYTEA NOT NULL,
    sha256 BYTEA NOT NULL,
    create_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, run_id)
);
CREATE TABLE run_attempts (
    workspace_id TEXT COLLATE "C" NOT NULL,
    run_id TEXT COLLATE "C" NOT NULL,
    attempt BIGINT NOT NULL,
    epoch BIGINT DEFAULT '0' NOT NULL,
    state TEXT COLLATE "C" DEFAULT '' NOT NULL,
    token_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    token_hash BYTEA NOT NULL,
    plugin_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    runtime_generation TEXT COLLATE "C" DEFAULT '' NOT NULL,
    start_time BIGINT DEFAULT '0' NOT NULL,
    end_time BIGINT DEFAULT '0' NOT NULL,
    outcome TEXT COLLATE "C" DEFAULT '' NOT NULL,
    PRIMARY KEY (workspace_id, run_id, attempt)
);
CREATE UNIQUE INDEX run_attempts_by_token ON run_attempts (token_id);
CREATE UNIQUE INDEX run_attempts_one_live ON run_attempts (workspace_id, run_id) WHERE state = 'live';
CREATE TABLE run_events (
    workspace_id TEXT COLLATE "C" NOT NULL,
    run_id TEXT COLLATE "C" NOT NULL,
    sequence BIGINT NOT NULL,
    attempt BIGINT DEFAULT '0' NOT NULL,
    kind TEXT COLLATE "C" DEFAULT '' NOT NULL,
    payload BYTEA NOT NULL,
    runner_first BIGINT DEFAULT '0' NOT NULL,
    runner_last BIGINT DEFAULT '0' NOT NULL,
    create_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, run_id, sequence)
);
CREATE TABLE run_steers (
    workspace_id TEXT COLLATE "C" NOT NULL,
    run_id TEXT COLLATE "C" NOT NULL,
    position BIGINT NOT NULL,
    steering_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    event_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    state TEXT COLLATE "C" DEFAULT '' NOT NULL,
    payload BYTEA NOT NULL,
    create_time BIGINT DEFAULT '0' NOT NULL,
    end_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, run_id, position)
);
CREATE TABLE effects (
    workspace_id TEXT COLLATE "C" NOT NULL,
    effect_id TEXT COLLATE "C" NOT NULL,
    run_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    attempt BIGINT DEFAULT '0' NOT NULL,
    call_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    tool TEXT COLLATE "C" DEFAULT '' NOT NULL,
    idempotency TEXT COLLATE "C" DEFAULT '' NOT NULL,
    digest BYTEA NOT NULL,
    state TEXT COLLATE "C" DEFAULT '' NOT NULL,
    result BYTEA NOT NULL,
    create_time BIGINT DEFAULT '0' NOT NULL,
    end_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, effect_id)
);
CREATE UNIQUE INDEX effects_by_call ON effects (workspace_id, run_id, call_id);
CREATE TABLE approvals (
    workspace_id TEXT COLLATE "C" NOT NULL,
    approval_id TEXT COLLATE "C" NOT NULL,
    run_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    attempt BIGINT DEFAULT '0' NOT NULL,
    call_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    title TEXT COLLATE "C" DEFAULT '' NOT NULL,
    digest TEXT COLLATE "C" DEFAULT '' NOT NULL,
    details BYTEA NOT NULL,
    approver TEXT COLLATE "C" DEFAULT '' NOT NULL,
    expire_time BIGINT DEFAULT '0' NOT NULL,
    state TEXT COLLATE "C" DEFAULT '' NOT NULL,
    decided_by TEXT COLLATE "C" DEFAULT '' NOT NULL,
    note TEXT COLLATE "C" DEFAULT '' NOT NULL,
    create_time BIGINT DEFAULT '0' NOT NULL,
    decide_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, approval_id)
);
CREATE INDEX approvals_by_run ON approvals (workspace_id, run_id);
CREATE INDEX approvals_expiring ON approvals (expire_time) WHERE state = 'pending';
CREATE INDEX approvals_pending ON approvals (workspace_id, create_time) WHERE state = 'pending';
CREATE TABLE deliveries (
    workspace_id TEXT COLLATE "C" NOT NULL,
    delivery_id TEXT COLLATE "C" NOT NULL,
    conversation_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    surface TEXT COLLATE "C" DEFAULT '' NOT NULL,
    bot_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    target BYTEA NOT NULL,
    payload BYTEA NOT NULL,
    event_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    run_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    expire_time BIGINT DEFAULT '0' NOT NULL,
    sequence BIGINT DEFAULT '0' NOT NULL,
    state TEXT COLLATE "C" DEFAULT '' NOT NULL,
    attempts BIGINT DEFAULT '0' NOT NULL,
    next_attempt_time BIGINT DEFAULT '0' NOT NULL,
    provider_message_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    error_code TEXT COLLATE "C" DEFAULT '' NOT NULL,
    error_message TEXT COLLATE "C" DEFAULT '' NOT NULL,
    create_time BIGINT DEFAULT '0' NOT NULL,
    end_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, delivery_id)
);
CREATE INDEX deliveries_by_run ON deliveries (workspace_id, run_id) WHERE run_id <> '';
CREATE UNIQUE INDEX deliveries_by_sequence ON deliveries (workspace_id, conversation_id, sequence);
CREATE INDEX deliveries_by_time ON deliveries (workspace_id, create_time, delivery_id);
CREATE INDEX deliveries_pending ON deliveries (workspace_id, surface, bot_id, conversation_id, sequence) WHERE state = 'pending';
CREATE INDEX deliveries_stuck ON deliveries (workspace_id, state) WHERE state IN ('unknown', 'failed', 'dead_letter');
UPDATE alembic_version SET version_num='0002' WHERE alembic_version.version_num = '0001';
CREATE TABLE artifacts (
    workspace_id TEXT COLLATE "C" NOT NULL,
    artifact_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" DEFAULT '' NOT NULL,
    mime_type TEXT COLLATE "C" DEFAULT '' NOT NULL,
    kind TEXT COLLATE "C" DEFAULT '' NOT NULL,
    size BIGINT DEFAULT '0' NOT NULL,
    sha256 TEXT COLLATE "C" DEFAULT '' NOT NULL,
    summary TEXT COLLATE "C" DEFAULT '' NOT NULL,
    event_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    run_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    conversation_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    creator TEXT COLLATE "C" DEFAULT '' NOT NULL,
    expire_time BIGINT DEFAULT '0' NOT NULL,
    create_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, artifact_id)
);
CREATE INDEX artifacts_by_blob ON artifacts (workspace_id, sha256);
CREATE INDEX artifacts_by_event ON artifacts (workspace_id, event_id) WHERE event_id <> '';
CREATE INDEX artifacts_by_run ON artifacts (workspace_id, run_id) WHERE run_id <> '';
CREATE INDEX artifacts_by_time ON artifacts (workspace_id, create_time, artifact_id);
CREATE INDEX artifacts_expiring ON artifacts (expire_time) WHERE expire_time > 0;
CREATE TABLE state (
    workspace_id TEXT COLLATE "C" NOT NULL,
    agent_id TEXT COLLATE "C" NOT NULL,
    scope TEXT COLLATE "C" NOT NULL,
    scope_key TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    value_json TEXT COLLATE "C" DEFAULT '' NOT NULL,
    version BIGINT DEFAULT '0' NOT NULL,
    deleted BIGINT DEFAULT '0' NOT NULL,
    update_time BIGINT DEFAULT '0' NOT NULL,
    run_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    PRIMARY KEY (workspace_id, agent_id, scope, scope_key, key)
);
CREATE TABLE storage (
    workspace_id TEXT COLLATE "C" NOT NULL,
    area TEXT COLLATE "C" NOT NULL,
    owner_id TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    size BIGINT DEFAULT '0' NOT NULL,
    sha256 TEXT COLLATE "C" DEFAULT '' NOT NULL,
    value BYTEA NOT NULL,
    version BIGINT DEFAULT '0' NOT NULL,
    deleted BIGINT DEFAULT '0' NOT NULL,
    update_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, area, owner_id, key)
);
CREATE INDEX storage_by_blob ON storage (workspace_id, sha256) WHERE sha256 <> '';
CREATE TABLE agents (
    workspace_id TEXT COLLATE "C" NOT NULL,
    agent_id TEXT COLLATE "C" NOT NULL,
    revision BIGINT DEFAULT '0' NOT NULL,
    managed_by TEXT COLLATE "C" DEFAULT '' NOT NULL,
    name TEXT COLLATE "C" DEFAULT '' NOT NULL,
    spec TEXT COLLATE "C" DEFAULT '' NOT NULL,
    create_time BIGINT DEFAULT '0' NOT NULL,
    update_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, agent_id)
);
CREATE UNIQUE INDEX agents_by_name ON agents (workspace_id, name);
CREATE TABLE bindings (
    workspace_id TEXT COLLATE "C" NOT NULL,
    binding_id TEXT COLLATE "C" NOT NULL,
    revision BIGINT DEFAULT '0' NOT NULL,
    managed_by TEXT COLLATE "C" DEFAULT '' NOT NULL,
    agent_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    spec TEXT COLLATE "C" DEFAULT '' NOT NULL,
    create_time BIGINT DEFAULT '0' NOT NULL,
    update_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, binding_id)
);
CREATE INDEX bindings_by_agent ON bindings (workspace_id, agent_id);
CREATE TABLE secrets (
    workspace_id TEXT COLLATE "C" NOT NULL,
    secret_id TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    ciphertext BYTEA NOT NULL,
    update_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, secret_id)
);
CREATE INDEX secrets_by_key ON secrets (key_id);
CREATE TABLE adapters (
    workspace_id TEXT COLLATE "C" NOT NULL,
    adapter_id TEXT COLLATE "C" NOT NULL,
    platform TEXT COLLATE "C" DEFAULT '' NOT NULL,
    version TEXT COLLATE "C" DEFAULT '' NOT NULL,
    surfaces TEXT COLLATE "C" DEFAULT '' NOT NULL,
    generation BIGINT DEFAULT '0' NOT NULL,
    change_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, adapter_id)
);
CREATE TABLE adapter_cursors (
    workspace_id TEXT COLLATE "C" NOT NULL,
    adapter_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C" DEFAULT '' NOT NULL,
    update_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, adapter_id, name)
);
UPDATE alembic_version SET version_num='0003' WHERE alembic_version.version_num = '0002';
ALTER TABLE leases ADD COLUMN commits BIGINT DEFAULT '0' NOT NULL;
CREATE TABLE transcript_search (item_number BIGINT PRIMARY KEY, terms TEXT COLLATE "C" NOT NULL, vector TSVECTOR NOT NULL);
CREATE INDEX transcript_search_by_term ON transcript_search USING gin (vector);
UPDATE alembic_version SET version_num='0004' WHERE alembic_version.version_num = '0003';
CREATE TABLE users (
    workspace_id TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" DEFAULT '' NOT NULL,
    role TEXT COLLATE "C" DEFAULT '' NOT NULL,
    disabled BIGINT DEFAULT '0' NOT NULL,
    revision BIGINT DEFAULT '0' NOT NULL,
    create_time BIGINT DEFAULT '0' NOT NULL,
    update_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, user_id)
);
CREATE UNIQUE INDEX users_by_name ON users (workspace_id, name);
CREATE TABLE user_actors (
    workspace_id TEXT COLLATE "C" NOT NULL,
    actor_id TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    PRIMARY KEY (workspace_id, actor_id)
);
CREATE INDEX user_actors_by_user ON user_actors (workspace_id, user_id);
CREATE TABLE kill_switches (
    workspace_id TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    target_id TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" DEFAULT '' NOT NULL,
    update_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, kind, target_id)
);
CREATE TABLE erasures (
    workspace_id TEXT COLLATE "C" NOT NULL,
    erasure_id TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" DEFAULT '' NOT NULL,
    subject_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    actor_ids TEXT COLLATE "C" DEFAULT '' NOT NULL,
    asked_by TEXT COLLATE "C" DEFAULT '' NOT NULL,
    asked_in TEXT COLLATE "C" DEFAULT '' NOT NULL,
    position BIGINT DEFAULT '0' NOT NULL,
    redacted BIGINT DEFAULT '0' NOT NULL,
    artifacts BIGINT DEFAULT '0' NOT NULL,
    create_time BIGINT DEFAULT '0' NOT NULL,
    end_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, erasure_id)
);
ALTER TABLE workspaces ADD COLUMN limits TEXT COLLATE "C" DEFAULT '' NOT NULL;
ALTER TABLE workspaces ADD COLUMN delete_time BIGINT DEFAULT '0' NOT NULL;
ALTER TABLE tokens ADD COLUMN user_id TEXT COLLATE "C" DEFAULT '' NOT NULL;
ALTER TABLE audit ADD COLUMN peer TEXT COLLATE "C" DEFAULT '' NOT NULL;
CREATE INDEX artifacts_by_size ON artifacts (workspace_id, size);
UPDATE alembic_version SET version_num='0005' WHERE alembic_version.version_num = '0004';
CREATE TABLE retention_marks (
    workspace_id TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    position BIGINT DEFAULT '0' NOT NULL,
    removed BIGINT DEFAULT '0' NOT NULL,
    last_removed BIGINT DEFAULT '0' NOT NULL,
    update_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, kind)
);
UPDATE alembic_version SET version_num='0006' WHERE alembic_version.version_num = '0005';
CREATE TABLE model_providers (
    workspace_id TEXT COLLATE "C" NOT NULL,
    provider_id TEXT COLLATE "C" NOT NULL,
    revision BIGINT DEFAULT '0' NOT NULL,
    spec TEXT COLLATE "C" DEFAULT '' NOT NULL,
    create_time BIGINT DEFAULT '0' NOT NULL,
    update_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, provider_id)
);
CREATE TABLE models (
    workspace_id TEXT COLLATE "C" NOT NULL,
    model_id TEXT COLLATE "C" NOT NULL,
    provider_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    revision BIGINT DEFAULT '0' NOT NULL,
    is_default BIGINT DEFAULT '0' NOT NULL,
    spec TEXT COLLATE "C" DEFAULT '' NOT NULL,
    create_time BIGINT DEFAULT '0' NOT NULL,
    update_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, model_id)
);
CREATE INDEX models_by_provider ON models (workspace_id, provider_id);
CREATE UNIQUE INDEX models_default ON models (workspace_id) WHERE is_default = 1;
CREATE TABLE model_prices (
    workspace_id TEXT COLLATE "C" NOT NULL,
    revision BIGINT DEFAULT '0' NOT NULL,
    prices TEXT COLLATE "C" DEFAULT '' NOT NULL,
    update_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id)
);
UPDATE alembic_version SET version_num='0007' WHERE alembic_version.version_num = '0006';
CREATE TABLE spending (
    workspace_id TEXT COLLATE "C" NOT NULL,
    run_id TEXT COLLATE "C" NOT NULL,
    attempt BIGINT NOT NULL,
    day BIGINT NOT NULL,
    model_id TEXT COLLATE "C" NOT NULL,
    agent_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    conversation_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    currency TEXT COLLATE "C" DEFAULT '' NOT NULL,
    cost_micros BIGINT DEFAULT '0' NOT NULL,
    input_tokens BIGINT DEFAULT '0' NOT NULL,
    output_tokens BIGINT DEFAULT '0' NOT NULL,
    calls BIGINT DEFAULT '0' NOT NULL,
    bytes BIGINT DEFAULT '0' NOT NULL,
    time_micros BIGINT DEFAULT '0' NOT NULL,
    unpriced_calls BIGINT DEFAULT '0' NOT NULL,
    update_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, run_id, attempt, day, model_id)
);
CREATE INDEX spending_by_day ON spending (workspace_id, day);
CREATE INDEX spending_by_agent ON spending (workspace_id, agent_id, day);
CREATE INDEX spending_by_conversation ON spending (workspace_id, conversation_id, day);
UPDATE alembic_version SET version_num='0008' WHERE alembic_version.version_num = '0007';
CREATE TABLE mcp_servers (
    workspace_id TEXT COLLATE "C" NOT NULL,
    server_id TEXT COLLATE "C" NOT NULL,
    revision BIGINT DEFAULT '0' NOT NULL,
    managed_by TEXT COLLATE "C" DEFAULT '' NOT NULL,
    spec TEXT COLLATE "C" DEFAULT '' NOT NULL,
    create_time BIGINT DEFAULT '0' NOT NULL,
    update_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, server_id)
);
UPDATE alembic_version SET version_num='0009' WHERE alembic_version.version_num = '0008';
CREATE TABLE interactions (
    workspace_id TEXT COLLATE "C" NOT NULL,
    run_id TEXT COLLATE "C" NOT NULL,
    interaction_id TEXT COLLATE "C" NOT NULL,
    conversation_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    event_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    agent_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    actor_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    request BYTEA NOT NULL,
    item_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    delivery_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    expire_time BIGINT DEFAULT '0' NOT NULL,
    state TEXT COLLATE "C" DEFAULT '' NOT NULL,
    answer BYTEA NOT NULL,
    request_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    answer_event_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    answer_run_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    create_time BIGINT DEFAULT '0' NOT NULL,
    end_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, run_id, interaction_id)
);
CREATE INDEX interactions_by_time ON interactions (workspace_id, create_time, run_id);
CREATE INDEX interactions_by_conversation ON interactions (workspace_id, conversation_id, create_time);
CREATE INDEX interactions_expiring ON interactions (expire_time) WHERE state = 'open';
ALTER TABLE approvals ADD COLUMN conversation_id TEXT COLLATE "C" DEFAULT '' NOT NULL;
ALTER TABLE approvals ADD COLUMN agent_id TEXT COLLATE "C" DEFAULT '' NOT NULL;
ALTER TABLE approvals ADD COLUMN event_id TEXT COLLATE "C" DEFAULT '' NOT NULL;
ALTER TABLE approvals ADD COLUMN item_id TEXT COLLATE "C" DEFAULT '' NOT NULL;
ALTER TABLE approvals ADD COLUMN delivery_id TEXT COLLATE "C" DEFAULT '' NOT NULL;
CREATE INDEX approvals_by_time ON approvals (workspace_id, create_time, approval_id);
UPDATE alembic_version SET version_num='0010' WHERE alembic_version.version_num = '0009';
CREATE TABLE schedules (
    workspace_id TEXT COLLATE "C" NOT NULL,
    schedule_id TEXT COLLATE "C" NOT NULL,
    revision BIGINT DEFAULT '0' NOT NULL,
    managed_by TEXT COLLATE "C" DEFAULT '' NOT NULL,
    name TEXT COLLATE "C" DEFAULT '' NOT NULL,
    spec TEXT COLLATE "C" DEFAULT '' NOT NULL,
    next_time BIGINT DEFAULT '0' NOT NULL,
    last_time BIGINT DEFAULT '0' NOT NULL,
    last_event_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    last_run_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
    last_outcome TEXT COLLATE "C" DEFAULT '' NOT NULL,
    last_reason TEXT COLLATE "C" DEFAULT '' NOT NULL,
    create_time BIGINT DEFAULT '0' NOT NULL,
    update_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, schedule_id)
);
CREATE UNIQUE INDEX schedules_by_name ON schedules (workspace_id, name);
CREATE INDEX schedules_due ON schedules (next_time) WHERE next_time > 0;
CREATE INDEX deliveries_sent ON deliveries (next_attempt_time) WHERE state = 'sent';
UPDATE alembic_version SET version_num='0011' WHERE alembic_version.version_num = '0010';
CREATE TABLE skills (
    workspace_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    revision BIGINT DEFAULT '0' NOT NULL,
    description TEXT COLLATE "C" DEFAULT '' NOT NULL,
    instructions TEXT COLLATE "C" DEFAULT '' NOT NULL,
    source TEXT COLLATE "C" DEFAULT '' NOT NULL,
    version TEXT COLLATE "C" DEFAULT '' NOT NULL,
    digest TEXT COLLATE "C" DEFAULT '' NOT NULL,
    writable BIGINT DEFAULT '0' NOT NULL,
    create_time BIGINT DEFAULT '0' NOT NULL,
    update_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, name)
);
CREATE TABLE skill_files (
    workspace_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    path TEXT COLLATE "C" NOT NULL,
    sha256 TEXT COLLATE "C" DEFAULT '' NOT NULL,
    size BIGINT DEFAULT '0' NOT NULL,
    executable BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, name, path)
);
CREATE INDEX skill_files_by_blob ON skill_files (workspace_id, sha256);
CREATE TABLE skill_activations (
    workspace_id TEXT COLLATE "C" NOT NULL,
    conversation_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C" DEFAULT '' NOT NULL,
    update_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, conversation_id, name)
);
CREATE INDEX skill_activations_by_skill ON skill_activations (workspace_id, name);
UPDATE alembic_version SET version_num='0012' WHERE alembic_version.version_num = '0011';
UPDATE alembic_version SET version_num='0013' WHERE alembic_version.version_num = '0012';
CREATE TABLE listeners (
    workspace_id TEXT COLLATE "C" NOT NULL,
    listener_id TEXT COLLATE "C" NOT NULL,
    enabled BIGINT DEFAULT '0' NOT NULL,
    sequence BIGINT DEFAULT '0' NOT NULL,
    delivered_count BIGINT DEFAULT '0' NOT NULL,
    missed_count BIGINT DEFAULT '0' NOT NULL,
    untold_count BIGINT DEFAULT '0' NOT NULL,
    trouble TEXT COLLATE "C" DEFAULT '' NOT NULL,
    update_time BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (workspace_id, listener_id)
);
CREATE INDEX listeners_enabled ON listeners (workspace_id, listener_id) WHERE enabled = 1;
UPDATE alembic_version SET version_num='0025' WHERE alembic_version.version_num = '0013';
CREATE INDEX state_by_scope ON state (workspace_id, scope, scope_key);
UPDATE alembic_version SET version_num='0023' WHERE alembic_version.version_num = '0025';
