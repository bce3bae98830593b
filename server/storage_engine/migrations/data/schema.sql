-- made from revisions 1024200954f6d3fe90bed4334c0d41c92acd0801bb8c735e73969fcc63e912b5
CREATE TABLE adapter_cursors (
  workspace_id TEXT NOT NULL,
  adapter_id TEXT NOT NULL,
  name TEXT NOT NULL,
  value TEXT DEFAULT '' NOT NULL,
  update_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, adapter_id, name)
);
CREATE TABLE adapters (
  workspace_id TEXT NOT NULL,
  adapter_id TEXT NOT NULL,
  platform TEXT DEFAULT '' NOT NULL,
  version TEXT DEFAULT '' NOT NULL,
  surfaces TEXT DEFAULT '' NOT NULL,
  generation INTEGER DEFAULT '0' NOT NULL,
  change_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, adapter_id)
);
CREATE TABLE agents (
  workspace_id TEXT NOT NULL,
  agent_id TEXT NOT NULL,
  revision INTEGER DEFAULT '0' NOT NULL,
  managed_by TEXT DEFAULT '' NOT NULL,
  name TEXT DEFAULT '' NOT NULL,
  spec TEXT DEFAULT '' NOT NULL,
  create_time INTEGER DEFAULT '0' NOT NULL,
  update_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, agent_id)
);
CREATE TABLE alembic_version (
  version_num VARCHAR(32) NOT NULL,
  CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE approvals (
  workspace_id TEXT NOT NULL,
  approval_id TEXT NOT NULL,
  run_id TEXT DEFAULT '' NOT NULL,
  attempt INTEGER DEFAULT '0' NOT NULL,
  call_id TEXT DEFAULT '' NOT NULL,
  title TEXT DEFAULT '' NOT NULL,
  digest TEXT DEFAULT '' NOT NULL,
  details BLOB NOT NULL,
  approver TEXT DEFAULT '' NOT NULL,
  expire_time INTEGER DEFAULT '0' NOT NULL,
  state TEXT DEFAULT '' NOT NULL,
  decided_by TEXT DEFAULT '' NOT NULL,
  note TEXT DEFAULT '' NOT NULL,
  create_time INTEGER DEFAULT '0' NOT NULL,
  decide_time INTEGER DEFAULT '0' NOT NULL, conversation_id TEXT DEFAULT '' NOT NULL, agent_id TEXT DEFAULT '' NOT NULL, event_id TEXT DEFAULT '' NOT NULL, item_id TEXT DEFAULT '' NOT NULL, delivery_id TEXT DEFAULT '' NOT NULL,
  PRIMARY KEY (workspace_id, approval_id)
);
CREATE TABLE artifacts (
  workspace_id TEXT NOT NULL,
  artifact_id TEXT NOT NULL,
  name TEXT DEFAULT '' NOT NULL,
  mime_type TEXT DEFAULT '' NOT NULL,
  kind TEXT DEFAULT '' NOT NULL,
  size INTEGER DEFAULT '0' NOT NULL,
  sha256 TEXT DEFAULT '' NOT NULL,
  summary TEXT DEFAULT '' NOT NULL,
  event_id TEXT DEFAULT '' NOT NULL,
  run_id TEXT DEFAULT '' NOT NULL,
  conversation_id TEXT DEFAULT '' NOT NULL,
  creator TEXT DEFAULT '' NOT NULL,
  expire_time INTEGER DEFAULT '0' NOT NULL,
  create_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, artifact_id)
);
CREATE TABLE audit (
  workspace_id TEXT NOT NULL,
  sequence INTEGER NOT NULL,
  time INTEGER DEFAULT '0' NOT NULL,
  action TEXT DEFAULT '' NOT NULL,
  resource TEXT DEFAULT '' NOT NULL,
  allowed INTEGER DEFAULT '0' NOT NULL,
  reason TEXT DEFAULT '' NOT NULL,
  role TEXT DEFAULT '' NOT NULL,
  subject TEXT DEFAULT '' NOT NULL,
  token_id TEXT DEFAULT '' NOT NULL,
  run_id TEXT DEFAULT '' NOT NULL,
  runner_id TEXT DEFAULT '' NOT NULL,
  scope TEXT DEFAULT '' NOT NULL,
  trace_id TEXT DEFAULT '' NOT NULL,
  details TEXT DEFAULT '' NOT NULL, peer TEXT DEFAULT '' NOT NULL,
  PRIMARY KEY (workspace_id, sequence)
);
CREATE TABLE bindings (
  workspace_id TEXT NOT NULL,
  binding_id TEXT NOT NULL,
  revision INTEGER DEFAULT '0' NOT NULL,
  managed_by TEXT DEFAULT '' NOT NULL,
  agent_id TEXT DEFAULT '' NOT NULL,
  spec TEXT DEFAULT '' NOT NULL,
  create_time INTEGER DEFAULT '0' NOT NULL,
  update_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, binding_id)
);
CREATE TABLE chats (
  workspace_id TEXT NOT NULL,
  chat_key TEXT NOT NULL,
  conversation_id TEXT DEFAULT '' NOT NULL,
  PRIMARY KEY (workspace_id, chat_key)
);
CREATE TABLE conversations (
  workspace_id TEXT NOT NULL,
  conversation_id TEXT NOT NULL,
  chat_key TEXT DEFAULT '' NOT NULL,
  surface TEXT DEFAULT '' NOT NULL,
  bot_id TEXT DEFAULT '' NOT NULL,
  channel_id TEXT DEFAULT '' NOT NULL,
  launcher_type TEXT DEFAULT '' NOT NULL,
  launcher_id TEXT DEFAULT '' NOT NULL,
  thread_id TEXT DEFAULT '' NOT NULL,
  reply_target TEXT DEFAULT '' NOT NULL,
  title TEXT DEFAULT '' NOT NULL,
  forked_from TEXT DEFAULT '' NOT NULL,
  forked_at INTEGER DEFAULT '0' NOT NULL,
  state TEXT DEFAULT '' NOT NULL,
  last_sequence INTEGER DEFAULT '0' NOT NULL,
  create_time INTEGER DEFAULT '0' NOT NULL,
  last_active_time INTEGER DEFAULT '0' NOT NULL,
  close_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, conversation_id)
);
CREATE TABLE deliveries (
  workspace_id TEXT NOT NULL,
  delivery_id TEXT NOT NULL,
  conversation_id TEXT DEFAULT '' NOT NULL,
  surface TEXT DEFAULT '' NOT NULL,
  bot_id TEXT DEFAULT '' NOT NULL,
  target BLOB NOT NULL,
  payload BLOB NOT NULL,
  event_id TEXT DEFAULT '' NOT NULL,
  run_id TEXT DEFAULT '' NOT NULL,
  expire_time INTEGER DEFAULT '0' NOT NULL,
  sequence INTEGER DEFAULT '0' NOT NULL,
  state TEXT DEFAULT '' NOT NULL,
  attempts INTEGER DEFAULT '0' NOT NULL,
  next_attempt_time INTEGER DEFAULT '0' NOT NULL,
  provider_message_id TEXT DEFAULT '' NOT NULL,
  error_code TEXT DEFAULT '' NOT NULL,
  error_message TEXT DEFAULT '' NOT NULL,
  create_time INTEGER DEFAULT '0' NOT NULL,
  end_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, delivery_id)
);
CREATE TABLE effects (
  workspace_id TEXT NOT NULL,
  effect_id TEXT NOT NULL,
  run_id TEXT DEFAULT '' NOT NULL,
  attempt INTEGER DEFAULT '0' NOT NULL,
  call_id TEXT DEFAULT '' NOT NULL,
  tool TEXT DEFAULT '' NOT NULL,
  idempotency TEXT DEFAULT '' NOT NULL,
  digest BLOB NOT NULL,
  state TEXT DEFAULT '' NOT NULL,
  result BLOB NOT NULL,
  create_time INTEGER DEFAULT '0' NOT NULL,
  end_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, effect_id)
);
CREATE TABLE erasures (
  workspace_id TEXT NOT NULL,
  erasure_id TEXT NOT NULL,
  kind TEXT DEFAULT '' NOT NULL,
  subject_id TEXT DEFAULT '' NOT NULL,
  actor_ids TEXT DEFAULT '' NOT NULL,
  asked_by TEXT DEFAULT '' NOT NULL,
  asked_in TEXT DEFAULT '' NOT NULL,
  position INTEGER DEFAULT '0' NOT NULL,
  redacted INTEGER DEFAULT '0' NOT NULL,
  artifacts INTEGER DEFAULT '0' NOT NULL,
  create_time INTEGER DEFAULT '0' NOT NULL,
  end_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, erasure_id)
);
CREATE TABLE events (
  workspace_id TEXT NOT NULL,
  event_id TEXT NOT NULL,
  sequence INTEGER DEFAULT '0' NOT NULL,
  source TEXT DEFAULT '' NOT NULL,
  dedupe_key TEXT DEFAULT '' NOT NULL,
  body_hash BLOB NOT NULL,
  type TEXT DEFAULT '' NOT NULL,
  event_time INTEGER DEFAULT '0' NOT NULL,
  accept_time INTEGER DEFAULT '0' NOT NULL,
  payload BLOB NOT NULL,
  summary TEXT DEFAULT '' NOT NULL,
  actor_id TEXT DEFAULT '' NOT NULL,
  conversation_id TEXT DEFAULT '' NOT NULL,
  item_id TEXT DEFAULT '' NOT NULL,
  provider_message_id TEXT DEFAULT '' NOT NULL,
  raw_ref TEXT DEFAULT '' NOT NULL,
  outcome TEXT DEFAULT '' NOT NULL,
  outcome_reason TEXT DEFAULT '' NOT NULL,
  run_id TEXT DEFAULT '' NOT NULL,
  trace_id TEXT DEFAULT '' NOT NULL,
  PRIMARY KEY (workspace_id, event_id)
);
CREATE TABLE host_epochs (
  epoch INTEGER NOT NULL,
  process_id INTEGER DEFAULT '0' NOT NULL,
  start_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (epoch)
);
CREATE TABLE interactions (
  workspace_id TEXT NOT NULL,
  run_id TEXT NOT NULL,
  interaction_id TEXT NOT NULL,
  conversation_id TEXT DEFAULT '' NOT NULL,
  event_id TEXT DEFAULT '' NOT NULL,
  agent_id TEXT DEFAULT '' NOT NULL,
  actor_id TEXT DEFAULT '' NOT NULL,
  request BLOB NOT NULL,
  item_id TEXT DEFAULT '' NOT NULL,
  delivery_id TEXT DEFAULT '' NOT NULL,
  expire_time INTEGER DEFAULT '0' NOT NULL,
  state TEXT DEFAULT '' NOT NULL,
  answer BLOB NOT NULL,
  request_id TEXT DEFAULT '' NOT NULL,
  answer_event_id TEXT DEFAULT '' NOT NULL,
  answer_run_id TEXT DEFAULT '' NOT NULL,
  create_time INTEGER DEFAULT '0' NOT NULL,
  end_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, run_id, interaction_id)
);
CREATE TABLE kill_switches (
  workspace_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  target_id TEXT NOT NULL,
  reason TEXT DEFAULT '' NOT NULL,
  update_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, kind, target_id)
);
CREATE TABLE leases (
  workspace_id TEXT NOT NULL,
  name TEXT NOT NULL,
  holder TEXT DEFAULT '' NOT NULL,
  fencing_token INTEGER DEFAULT '0' NOT NULL,
  expire_time INTEGER DEFAULT '0' NOT NULL, commits INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, name)
);
CREATE TABLE listeners (
  workspace_id TEXT NOT NULL,
  listener_id TEXT NOT NULL,
  enabled INTEGER DEFAULT '0' NOT NULL,
  sequence INTEGER DEFAULT '0' NOT NULL,
  delivered_count INTEGER DEFAULT '0' NOT NULL,
  missed_count INTEGER DEFAULT '0' NOT NULL,
  untold_count INTEGER DEFAULT '0' NOT NULL,
  trouble TEXT DEFAULT '' NOT NULL,
  update_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, listener_id)
);
CREATE TABLE mcp_servers (
  workspace_id TEXT NOT NULL,
  server_id TEXT NOT NULL,
  revision INTEGER DEFAULT '0' NOT NULL,
  managed_by TEXT DEFAULT '' NOT NULL,
  spec TEXT DEFAULT '' NOT NULL,
  create_time INTEGER DEFAULT '0' NOT NULL,
  update_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, server_id)
);
CREATE TABLE model_prices (
  workspace_id TEXT NOT NULL,
  revision INTEGER DEFAULT '0' NOT NULL,
  prices TEXT DEFAULT '' NOT NULL,
  update_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id)
);
CREATE TABLE model_providers (
  workspace_id TEXT NOT NULL,
  provider_id TEXT NOT NULL,
  revision INTEGER DEFAULT '0' NOT NULL,
  spec TEXT DEFAULT '' NOT NULL,
  create_time INTEGER DEFAULT '0' NOT NULL,
  update_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, provider_id)
);
CREATE TABLE models (
  workspace_id TEXT NOT NULL,
  model_id TEXT NOT NULL,
  provider_id TEXT DEFAULT '' NOT NULL,
  revision INTEGER DEFAULT '0' NOT NULL,
  is_default INTEGER DEFAULT '0' NOT NULL,
  spec TEXT DEFAULT '' NOT NULL,
  create_time INTEGER DEFAULT '0' NOT NULL,
  update_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, model_id)
);
CREATE TABLE retention_marks (
  workspace_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  position INTEGER DEFAULT '0' NOT NULL,
  removed INTEGER DEFAULT '0' NOT NULL,
  last_removed INTEGER DEFAULT '0' NOT NULL,
  update_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, kind)
);
CREATE TABLE run_attempts (
  workspace_id TEXT NOT NULL,
  run_id TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  epoch INTEGER DEFAULT '0' NOT NULL,
  state TEXT DEFAULT '' NOT NULL,
  token_id TEXT DEFAULT '' NOT NULL,
  token_hash BLOB NOT NULL,
  plugin_id TEXT DEFAULT '' NOT NULL,
  runtime_generation TEXT DEFAULT '' NOT NULL,
  start_time INTEGER DEFAULT '0' NOT NULL,
  end_time INTEGER DEFAULT '0' NOT NULL,
  outcome TEXT DEFAULT '' NOT NULL,
  PRIMARY KEY (workspace_id, run_id, attempt)
);
CREATE TABLE run_events (
  workspace_id TEXT NOT NULL,
  run_id TEXT NOT NULL,
  sequence INTEGER NOT NULL,
  attempt INTEGER DEFAULT '0' NOT NULL,
  kind TEXT DEFAULT '' NOT NULL,
  payload BLOB NOT NULL,
  runner_first INTEGER DEFAULT '0' NOT NULL,
  runner_last INTEGER DEFAULT '0' NOT NULL,
  create_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, run_id, sequence)
);
CREATE TABLE run_snapshots (
  workspace_id TEXT NOT NULL,
  run_id TEXT NOT NULL,
  snapshot BLOB NOT NULL,
  context BLOB NOT NULL,
  sha256 BLOB NOT NULL,
  create_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, run_id)
);
CREATE TABLE run_steers (
  workspace_id TEXT NOT NULL,
  run_id TEXT NOT NULL,
  position INTEGER NOT NULL,
  steering_id TEXT DEFAULT '' NOT NULL,
  event_id TEXT DEFAULT '' NOT NULL,
  state TEXT DEFAULT '' NOT NULL,
  payload BLOB NOT NULL,
  create_time INTEGER DEFAULT '0' NOT NULL,
  end_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, run_id, position)
);
CREATE TABLE runs (
  workspace_id TEXT NOT NULL,
  run_id TEXT NOT NULL,
  event_id TEXT DEFAULT '' NOT NULL,
  event_sequence INTEGER DEFAULT '0' NOT NULL,
  conversation_id TEXT DEFAULT '' NOT NULL,
  agent_id TEXT DEFAULT '' NOT NULL,
  agent_revision INTEGER DEFAULT '0' NOT NULL,
  binding_id TEXT DEFAULT '' NOT NULL,
  runner_id TEXT DEFAULT '' NOT NULL,
  queue_policy TEXT DEFAULT '' NOT NULL,
  parent_run_id TEXT DEFAULT '' NOT NULL,
  trace_id TEXT DEFAULT '' NOT NULL,
  available_time INTEGER DEFAULT '0' NOT NULL,
  state TEXT DEFAULT '' NOT NULL,
  attempt INTEGER DEFAULT '0' NOT NULL,
  epoch INTEGER DEFAULT '0' NOT NULL,
  last_sequence INTEGER DEFAULT '0' NOT NULL,
  create_time INTEGER DEFAULT '0' NOT NULL,
  start_time INTEGER DEFAULT '0' NOT NULL,
  end_time INTEGER DEFAULT '0' NOT NULL,
  deadline INTEGER DEFAULT '0' NOT NULL,
  cancel_time INTEGER DEFAULT '0' NOT NULL,
  cancel_reason TEXT DEFAULT '' NOT NULL,
  finish_reason TEXT DEFAULT '' NOT NULL,
  error_code TEXT DEFAULT '' NOT NULL,
  error_message TEXT DEFAULT '' NOT NULL,
  retryable INTEGER DEFAULT '0' NOT NULL,
  input_tokens INTEGER,
  output_tokens INTEGER,
  cached_tokens INTEGER,
  reasoning_tokens INTEGER,
  cost_micros INTEGER,
  currency TEXT DEFAULT '' NOT NULL,
  model_id TEXT DEFAULT '' NOT NULL,
  price_version TEXT DEFAULT '' NOT NULL,
  PRIMARY KEY (workspace_id, run_id)
);
CREATE TABLE schedules (
  workspace_id TEXT NOT NULL,
  schedule_id TEXT NOT NULL,
  revision INTEGER DEFAULT '0' NOT NULL,
  managed_by TEXT DEFAULT '' NOT NULL,
  name TEXT DEFAULT '' NOT NULL,
  spec TEXT DEFAULT '' NOT NULL,
  next_time INTEGER DEFAULT '0' NOT NULL,
  last_time INTEGER DEFAULT '0' NOT NULL,
  last_event_id TEXT DEFAULT '' NOT NULL,
  last_run_id TEXT DEFAULT '' NOT NULL,
  last_outcome TEXT DEFAULT '' NOT NULL,
  last_reason TEXT DEFAULT '' NOT NULL,
  create_time INTEGER DEFAULT '0' NOT NULL,
  update_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, schedule_id)
);
CREATE TABLE secrets (
  workspace_id TEXT NOT NULL,
  secret_id TEXT NOT NULL,
  key_id TEXT DEFAULT '' NOT NULL,
  ciphertext BLOB NOT NULL,
  update_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, secret_id)
);
CREATE TABLE sequences (
  workspace_id TEXT NOT NULL,
  stream TEXT NOT NULL,
  value INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, stream)
);
CREATE TABLE skill_activations (
  workspace_id TEXT NOT NULL,
  conversation_id TEXT NOT NULL,
  name TEXT NOT NULL,
  digest TEXT DEFAULT '' NOT NULL,
  update_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, conversation_id, name)
);
CREATE TABLE skill_files (
  workspace_id TEXT NOT NULL,
  name TEXT NOT NULL,
  path TEXT NOT NULL,
  sha256 TEXT DEFAULT '' NOT NULL,
  size INTEGER DEFAULT '0' NOT NULL,
  executable INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, name, path)
);
CREATE TABLE skills (
  workspace_id TEXT NOT NULL,
  name TEXT NOT NULL,
  revision INTEGER DEFAULT '0' NOT NULL,
  description TEXT DEFAULT '' NOT NULL,
  instructions TEXT DEFAULT '' NOT NULL,
  source TEXT DEFAULT '' NOT NULL,
  version TEXT DEFAULT '' NOT NULL,
  digest TEXT DEFAULT '' NOT NULL,
  writable INTEGER DEFAULT '0' NOT NULL,
  create_time INTEGER DEFAULT '0' NOT NULL,
  update_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, name)
);
CREATE TABLE spending (
  workspace_id TEXT NOT NULL,
  run_id TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  day INTEGER NOT NULL,
  model_id TEXT NOT NULL,
  agent_id TEXT DEFAULT '' NOT NULL,
  conversation_id TEXT DEFAULT '' NOT NULL,
  currency TEXT DEFAULT '' NOT NULL,
  cost_micros INTEGER DEFAULT '0' NOT NULL,
  input_tokens INTEGER DEFAULT '0' NOT NULL,
  output_tokens INTEGER DEFAULT '0' NOT NULL,
  calls INTEGER DEFAULT '0' NOT NULL,
  bytes INTEGER DEFAULT '0' NOT NULL,
  time_micros INTEGER DEFAULT '0' NOT NULL,
  unpriced_calls INTEGER DEFAULT '0' NOT NULL,
  update_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, run_id, attempt, day, model_id)
);
CREATE TABLE state (
  workspace_id TEXT NOT NULL,
  agent_id TEXT NOT NULL,
  scope TEXT NOT NULL,
  scope_key TEXT NOT NULL,
  "key" TEXT NOT NULL,
  value_json TEXT DEFAULT '' NOT NULL,
  version INTEGER DEFAULT '0' NOT NULL,
  deleted INTEGER DEFAULT '0' NOT NULL,
  update_time INTEGER DEFAULT '0' NOT NULL,
  run_id TEXT DEFAULT '' NOT NULL,
  PRIMARY KEY (workspace_id, agent_id, scope, scope_key, "key")
);
CREATE TABLE storage (
  workspace_id TEXT NOT NULL,
  area TEXT NOT NULL,
  owner_id TEXT NOT NULL,
  "key" TEXT NOT NULL,
  size INTEGER DEFAULT '0' NOT NULL,
  sha256 TEXT DEFAULT '' NOT NULL,
  value BLOB NOT NULL,
  version INTEGER DEFAULT '0' NOT NULL,
  deleted INTEGER DEFAULT '0' NOT NULL,
  update_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, area, owner_id, "key")
);
CREATE TABLE tokens (
  workspace_id TEXT NOT NULL,
  token_id TEXT NOT NULL,
  kind TEXT DEFAULT '' NOT NULL,
  role TEXT DEFAULT '' NOT NULL,
  subject TEXT DEFAULT '' NOT NULL,
  secret_hash BLOB NOT NULL,
  previous_hash BLOB NOT NULL,
  previous_expire_time INTEGER DEFAULT '0' NOT NULL,
  name TEXT DEFAULT '' NOT NULL,
  expire_time INTEGER DEFAULT '0' NOT NULL,
  create_time INTEGER DEFAULT '0' NOT NULL,
  revoke_time INTEGER DEFAULT '0' NOT NULL,
  last_use_time INTEGER DEFAULT '0' NOT NULL, user_id TEXT DEFAULT '' NOT NULL,
  PRIMARY KEY (workspace_id, token_id)
);
CREATE TABLE transcript (
  item_number INTEGER NOT NULL,
  workspace_id TEXT DEFAULT '' NOT NULL,
  conversation_id TEXT DEFAULT '' NOT NULL,
  sequence INTEGER DEFAULT '0' NOT NULL,
  item_id TEXT DEFAULT '' NOT NULL,
  role TEXT DEFAULT '' NOT NULL,
  kind TEXT DEFAULT '' NOT NULL,
  text TEXT DEFAULT '' NOT NULL,
  content BLOB NOT NULL,
  thread_id TEXT DEFAULT '' NOT NULL,
  event_id TEXT DEFAULT '' NOT NULL,
  run_id TEXT DEFAULT '' NOT NULL,
  actor_id TEXT DEFAULT '' NOT NULL,
  actor_name TEXT DEFAULT '' NOT NULL,
  provider_message_id TEXT DEFAULT '' NOT NULL,
  create_time INTEGER DEFAULT '0' NOT NULL,
  edit_time INTEGER DEFAULT '0' NOT NULL,
  redact_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (item_number)
);
CREATE VIRTUAL TABLE transcript_search USING fts5(scope, terms, tokenize = "unicode61 remove_diacritics 0 categories 'L* M* N* Co S* P*'");
CREATE TABLE user_actors (
  workspace_id TEXT NOT NULL,
  actor_id TEXT NOT NULL,
  user_id TEXT DEFAULT '' NOT NULL,
  PRIMARY KEY (workspace_id, actor_id)
);
CREATE TABLE users (
  workspace_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  name TEXT DEFAULT '' NOT NULL,
  role TEXT DEFAULT '' NOT NULL,
  disabled INTEGER DEFAULT '0' NOT NULL,
  revision INTEGER DEFAULT '0' NOT NULL,
  create_time INTEGER DEFAULT '0' NOT NULL,
  update_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id, user_id)
);
CREATE TABLE workspaces (
  workspace_id TEXT NOT NULL,
  name TEXT DEFAULT '' NOT NULL,
  disabled INTEGER DEFAULT '0' NOT NULL,
  revision INTEGER DEFAULT '0' NOT NULL,
  create_time INTEGER DEFAULT '0' NOT NULL,
  update_time INTEGER DEFAULT '0' NOT NULL, limits TEXT DEFAULT '' NOT NULL, delete_time INTEGER DEFAULT '0' NOT NULL,
  PRIMARY KEY (workspace_id)
);
CREATE UNIQUE INDEX agents_by_name ON agents (workspace_id, name);
CREATE INDEX approvals_by_run ON approvals (workspace_id, run_id);
CREATE INDEX approvals_by_time ON approvals (workspace_id, create_time, approval_id);
CREATE INDEX approvals_expiring ON approvals (expire_time) WHERE state = 'pending';
CREATE INDEX approvals_pending ON approvals (workspace_id, create_time) WHERE state = 'pending';
CREATE INDEX artifacts_by_blob ON artifacts (workspace_id, sha256);
CREATE INDEX artifacts_by_event ON artifacts (workspace_id, event_id) WHERE event_id <> '';
CREATE INDEX artifacts_by_run ON artifacts (workspace_id, run_id) WHERE run_id <> '';
CREATE INDEX artifacts_by_size ON artifacts (workspace_id, size);
CREATE INDEX artifacts_by_time ON artifacts (workspace_id, create_time, artifact_id);
CREATE INDEX artifacts_expiring ON artifacts (expire_time) WHERE expire_time > 0;
CREATE INDEX audit_by_run ON audit (workspace_id, run_id, sequence) WHERE run_id <> '';
CREATE INDEX bindings_by_agent ON bindings (workspace_id, agent_id);
CREATE INDEX conversations_by_activity ON conversations (workspace_id, last_active_time, conversation_id);
CREATE INDEX conversations_by_chat ON conversations (workspace_id, chat_key, create_time);
CREATE INDEX deliveries_by_run ON deliveries (workspace_id, run_id) WHERE run_id <> '';
CREATE UNIQUE INDEX deliveries_by_sequence ON deliveries (workspace_id, conversation_id, sequence);
CREATE INDEX deliveries_by_time ON deliveries (workspace_id, create_time, delivery_id);
CREATE INDEX deliveries_pending ON deliveries (workspace_id, surface, bot_id, conversation_id, sequence) WHERE state = 'pending';
CREATE INDEX deliveries_sent ON deliveries (next_attempt_time) WHERE state = 'sent';
CREATE INDEX deliveries_stuck ON deliveries (workspace_id, state) WHERE state IN ('unknown', 'failed', 'dead_letter');
CREATE UNIQUE INDEX effects_by_call ON effects (workspace_id, run_id, call_id);
CREATE INDEX events_by_conversation ON events (workspace_id, conversation_id, sequence);
CREATE UNIQUE INDEX events_by_key ON events (workspace_id, source, dedupe_key);
CREATE INDEX events_by_provider_message ON events (workspace_id, conversation_id, provider_message_id) WHERE provider_message_id <> '';
CREATE UNIQUE INDEX events_by_sequence ON events (workspace_id, sequence);
CREATE INDEX interactions_by_conversation ON interactions (workspace_id, conversation_id, create_time);
CREATE INDEX interactions_by_time ON interactions (workspace_id, create_time, run_id);
CREATE INDEX interactions_expiring ON interactions (expire_time) WHERE state = 'open';
CREATE INDEX listeners_enabled ON listeners (workspace_id, listener_id) WHERE enabled = 1;
CREATE INDEX models_by_provider ON models (workspace_id, provider_id);
CREATE UNIQUE INDEX models_default ON models (workspace_id) WHERE is_default = 1;
CREATE UNIQUE INDEX run_attempts_by_token ON run_attempts (token_id);
CREATE UNIQUE INDEX run_attempts_one_live ON run_attempts (workspace_id, run_id) WHERE state = 'live';
CREATE INDEX runs_by_conversation ON runs (workspace_id, conversation_id, event_sequence);
CREATE INDEX runs_by_event ON runs (workspace_id, event_id);
CREATE INDEX runs_by_sequence ON runs (workspace_id, event_sequence, run_id);
CREATE INDEX runs_open ON runs (workspace_id, event_sequence, run_id) WHERE state IN ('queued', 'running', 'waiting');
CREATE INDEX runs_open_of_conversation ON runs (workspace_id, conversation_id) WHERE state IN ('queued', 'running', 'waiting');
CREATE UNIQUE INDEX schedules_by_name ON schedules (workspace_id, name);
CREATE INDEX schedules_due ON schedules (next_time) WHERE next_time > 0;
CREATE INDEX secrets_by_key ON secrets (key_id);
CREATE INDEX skill_activations_by_skill ON skill_activations (workspace_id, name);
CREATE INDEX skill_files_by_blob ON skill_files (workspace_id, sha256);
CREATE INDEX spending_by_agent ON spending (workspace_id, agent_id, day);
CREATE INDEX spending_by_conversation ON spending (workspace_id, conversation_id, day);
CREATE INDEX spending_by_day ON spending (workspace_id, day);
CREATE INDEX state_by_scope ON state (workspace_id, scope, scope_key);
CREATE INDEX storage_by_blob ON storage (workspace_id, sha256) WHERE sha256 <> '';
CREATE UNIQUE INDEX tokens_by_id ON tokens (token_id);
CREATE UNIQUE INDEX transcript_by_id ON transcript (workspace_id, item_id);
CREATE UNIQUE INDEX transcript_by_sequence ON transcript (workspace_id, conversation_id, sequence);
CREATE INDEX user_actors_by_user ON user_actors (workspace_id, user_id);
CREATE UNIQUE INDEX users_by_name ON users (workspace_id, name);
INSERT INTO alembic_version (version_num) VALUES ('0023');
