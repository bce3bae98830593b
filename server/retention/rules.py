"""What may go, kind by kind. Nothing goes that a live run, a pending delivery or an open question still needs."""

from portway.server.retention.config import RetentionConfig
from portway.server.retention.types import Rule, Step, Stepped
from portway.server.retention.walk import Walk
from portway.server.snapshot.freeze import joined
from portway.server.spending.months import day_at
from portway.server.storage_engine.clock import SECOND
from portway.server.storage_engine.transaction import SqlValue, Transaction
from portway.server.transcript.search import forget_text

# Longer than anything was ever kept, and far from the largest number.
_FOR_EVER = 10**11
_OF_RUN = "workspace_id = :workspace_id AND run_id = :id"
_ENDED = "state IN ('completed', 'failed', 'cancelled') AND end_time <= :cutoff"
_NOTHING_PENDING = (
    "NOT EXISTS (SELECT 1 FROM deliveries AS d WHERE d.workspace_id = t.workspace_id AND d.run_id = t.run_id "
    "AND d.run_id <> '' AND d.state IN ('pending', 'unknown'))"
)
# The last word stays: who watches an old run still learns how it ended.
_LEDGER = f"""
DELETE FROM run_events WHERE {_OF_RUN} AND sequence IN (
  SELECT sequence FROM run_events WHERE {_OF_RUN} AND kind NOT IN ('run_completed', 'run_failed')
  ORDER BY sequence LIMIT :budget)
"""
_WHOLE_LEDGER = f"""
DELETE FROM run_events WHERE {_OF_RUN} AND sequence IN (
  SELECT sequence FROM run_events WHERE {_OF_RUN} ORDER BY sequence LIMIT :budget)
"""
_EFFECTS = f"DELETE FROM effects WHERE {_OF_RUN} AND state <> 'planned'"
_APPROVALS = f"DELETE FROM approvals WHERE {_OF_RUN} AND state <> 'pending'"


def _runs(removable: str, *deletes: str, large: tuple[str, ...] = ()) -> Walk:
    return Walk("runs", "event_sequence", "run_id", "create_time", removable, deletes, large)


_LEDGERS = _runs(_ENDED, f"DELETE FROM run_steers WHERE {_OF_RUN}", large=(_LEDGER,))
_EFFECTS_OF_RUNS = _runs(_ENDED, _EFFECTS)
_APPROVALS_OF_RUNS = _runs(_ENDED, _APPROVALS)
_WHOLE_RUNS = _runs(
    f"{_ENDED} AND {_NOTHING_PENDING}",
    *(
        f"DELETE FROM {table} WHERE {_OF_RUN}"
        for table in ("run_steers", "run_snapshots", "run_attempts", "effects", "approvals", "runs")
    ),
    large=(_WHOLE_LEDGER,),
)
_DELIVERY = "DELETE FROM deliveries WHERE workspace_id = :workspace_id AND delivery_id = :id"
_DELIVERIES = Walk(
    "deliveries",
    "create_time",
    "delivery_id",
    "create_time",
    "state IN ('acknowledged', 'discarded', 'expired') AND end_time <= :cutoff OR state = 'sent'",
    (_DELIVERY,),
)
_UNDELIVERED = Walk(
    "deliveries",
    "create_time",
    "delivery_id",
    "create_time",
    "state IN ('unknown', 'failed', 'dead_letter')",
    (_DELIVERY,),
)
_ARTIFACTS = Walk(
    "artifacts",
    "create_time",
    "artifact_id",
    "create_time",
    "expire_time = 0",
    # The reaper of files takes row and bytes together.
    ("UPDATE artifacts SET expire_time = 1 WHERE workspace_id = :workspace_id AND artifact_id = :id",),
)
_INTERACTIONS = Walk(
    "interactions",
    "create_time",
    "run_id",
    "create_time",
    "state <> 'open' AND end_time <= :cutoff",
    (f"DELETE FROM interactions WHERE {_OF_RUN} AND state <> 'open'",),
)
_SPENDING_BEFORE = "workspace_id = :workspace_id AND day < :day"
_SPENDING = f"""
DELETE FROM spending WHERE workspace_id = :workspace_id AND (run_id, attempt, day, model_id) IN (
  SELECT run_id, attempt, day, model_id FROM spending WHERE {_SPENDING_BEFORE} LIMIT :limit)
"""
_AUDIT_PAGE = """
SELECT MAX(sequence), COUNT(*) FROM (
  SELECT sequence FROM audit WHERE workspace_id = :workspace_id AND time <= :cutoff ORDER BY sequence LIMIT :limit
) AS oldest
"""
_CONVERSATIONS = """
SELECT conversation_id FROM conversations AS t
WHERE workspace_id = :workspace_id AND last_active_time <= :cutoff
  AND (last_active_time, conversation_id) > (:number, :id)
  AND NOT EXISTS (SELECT 1 FROM runs AS r WHERE r.workspace_id = t.workspace_id
    AND r.conversation_id = t.conversation_id AND r.state IN ('queued', 'running', 'waiting'))
  AND NOT EXISTS (SELECT 1 FROM deliveries AS d WHERE d.workspace_id = t.workspace_id
    AND d.conversation_id = t.conversation_id AND d.state IN ('pending', 'unknown'))
ORDER BY last_active_time, conversation_id LIMIT :limit
"""
_ITEMS = """
SELECT item_number FROM transcript WHERE workspace_id = :workspace_id AND conversation_id = :id
ORDER BY sequence LIMIT :limit
"""
# By the agents there are: the key of the table begins with them.
_STATE_OF_CONVERSATION = """
DELETE FROM state WHERE workspace_id = :workspace_id
AND agent_id IN (SELECT agent_id FROM agents WHERE workspace_id = :workspace_id)
AND scope = 'conversation' AND (scope_key = :id OR substr(scope_key, 1, length(:prefix)) = :prefix)
"""
_TOKENS = """
DELETE FROM tokens WHERE workspace_id = :workspace_id AND token_id IN (
  SELECT token_id FROM tokens WHERE workspace_id = :workspace_id
  AND ((expire_time > 0 AND expire_time < :cutoff) OR (revoke_time > 0 AND revoke_time < :cutoff)) LIMIT :limit)
"""
_COUNT_TOKENS = """
SELECT COUNT(*) FROM tokens WHERE workspace_id = :workspace_id
AND ((expire_time > 0 AND expire_time < :cutoff) OR (revoke_time > 0 AND revoke_time < :cutoff))
"""


def rules_of(config: RetentionConfig) -> list[Rule]:
    """In an order in which what refers to something goes before it."""
    return [
        Rule("ledger", _LEDGERS.step),
        Rule("effects", _EFFECTS_OF_RUNS.step),
        Rule("approvals", _APPROVALS_OF_RUNS.step),
        Rule("runs", _WHOLE_RUNS.step),
        Rule("deliveries", _DELIVERIES.step),
        Rule("undelivered", _UNDELIVERED.step),
        Rule("interactions", _INTERACTIONS.step),
        Rule("spending", _spending),
        Rule("events", _events(config).step),
        Rule("audit", _audit),
        Rule("tokens", _tokens),
        Rule("conversations", _conversations),
        Rule("artifacts", _ARTIFACTS.step),
    ]


def _events(config: RetentionConfig) -> Walk:
    """An event goes when its key has no use any more and no run of it is open."""
    usual, own = config.dedupe_seconds()
    sources = sorted(own)
    ages = " ".join(f"WHEN source = :source_{number} THEN :age_{number}" for number in range(len(sources)))
    kept = f"CASE {ages} ELSE :age END" if ages else ":age"
    more: dict[str, SqlValue] = {"age": (usual or _FOR_EVER) * SECOND}
    for number, source in enumerate(sources):
        more[f"source_{number}"], more[f"age_{number}"] = source, (own[source] or _FOR_EVER) * SECOND
    return Walk(
        "events",
        "sequence",
        "event_id",
        "accept_time",
        f"accept_time <= :now - {kept} AND NOT EXISTS (SELECT 1 FROM runs AS r "
        "WHERE r.workspace_id = t.workspace_id AND r.event_id = t.event_id "
        "AND r.state IN ('queued', 'running', 'waiting'))",
        ("DELETE FROM events WHERE workspace_id = :workspace_id AND event_id = :id",),
        more=more,
    )


def _audit(tx: Transaction, step: Step) -> Stepped:
    params: dict[str, SqlValue] = {"workspace_id": step.workspace_id, "cutoff": step.cutoff, "limit": step.limit}
    if step.dry:
        row = tx.one(_AUDIT_PAGE, {**params, "limit": 10**9})
        return Stepped(row[1] if row else 0, step.position, None, done=True)
    row = tx.one(_AUDIT_PAGE, params)
    until, count = (row[0], row[1]) if row and row[1] else (0, 0)
    if count:
        delete = "DELETE FROM audit WHERE workspace_id = :workspace_id AND sequence <= :until"
        tx.execute(delete, {"workspace_id": step.workspace_id, "until": until})
    return Stepped(count, step.position, None, done=count < step.limit)


def _spending(tx: Transaction, step: Step) -> Stepped:
    params: dict[str, SqlValue] = {"workspace_id": step.workspace_id, "day": day_at(step.cutoff)}
    if step.dry:
        row = tx.one(f"SELECT COUNT(*) FROM spending WHERE {_SPENDING_BEFORE}", params)
        return Stepped(row[0] if row else 0, step.position, None, done=True)
    count = tx.execute(_SPENDING, {**params, "limit": step.limit})
    return Stepped(count, step.position, None, done=count < step.limit)


def _tokens(tx: Transaction, step: Step) -> Stepped:
    params: dict[str, SqlValue] = {"workspace_id": step.workspace_id, "cutoff": step.cutoff}
    if step.dry:
        row = tx.one(_COUNT_TOKENS, params)
        return Stepped(row[0] if row else 0, step.position, None, done=True)
    count = tx.execute(_TOKENS, {**params, "limit": step.limit})
    return Stepped(count, step.position, None, done=count < step.limit)


def _conversations(tx: Transaction, step: Step) -> Stepped:
    """Idle ones, whole: items with their index, then what else is kept of it, then the conversation."""
    params: dict[str, SqlValue] = {
        "workspace_id": step.workspace_id,
        "cutoff": step.cutoff,
        "number": step.position[0],
        "id": step.position[1],
    }
    found = tx.all(_CONVERSATIONS, {**params, "limit": 10**6 if step.dry else step.limit})
    if step.dry:
        return Stepped(len(found), step.position, None, done=True)
    removed = 0
    for (conversation_id,) in found:
        here: dict[str, SqlValue] = {"workspace_id": step.workspace_id, "id": conversation_id}
        items = [row[0] for row in tx.all(_ITEMS, {**here, "limit": step.limit - removed})]
        for number in items:
            forget_text(tx, number)
            tx.execute("DELETE FROM transcript WHERE item_number = :number", {"number": number})
        removed += len(items)
        if removed >= step.limit:
            return Stepped(removed, step.position, None, done=False)
        removed += tx.execute(_STATE_OF_CONVERSATION, {**here, "prefix": joined(conversation_id, "")})
        for table in ("chats", "skill_activations", "conversations"):
            removed += tx.execute(
                f"DELETE FROM {table} WHERE workspace_id = :workspace_id AND conversation_id = :id", here
            )
    return Stepped(removed, step.position, None, done=len(found) < step.limit)
