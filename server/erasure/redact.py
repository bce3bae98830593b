"""The pieces of an erasure, as units of work. Each counts the rows that it changed: done again, it counts none."""

from collections.abc import Sequence

from portway.server.erasure.wire import event_tombstone, run_event_tombstone
from portway.server.storage_engine.transaction import Params, ReadTransaction, Row, Transaction
from portway.server.transcript.derived import forget_derived
from portway.server.transcript.search import forget_text

_LEDGER = """
SELECT sequence, payload FROM run_events WHERE workspace_id = :workspace_id AND run_id = :run_id ORDER BY sequence
"""
_LEDGER_SET = """
UPDATE run_events SET payload = :payload
WHERE workspace_id = :workspace_id AND run_id = :run_id AND sequence = :sequence
"""
_OF_RUN = "workspace_id = :workspace_id AND run_id = :run_id"
# The digests of contents go with them: a short text can be guessed from its digest.
_RUN_ROWS = (
    f"""
    UPDATE run_snapshots SET snapshot = :empty, context = :empty, sha256 = :empty
    WHERE {_OF_RUN} AND (length(snapshot) > 0 OR length(context) > 0)
    """,
    f"UPDATE run_steers SET payload = :empty WHERE {_OF_RUN} AND length(payload) > 0",
    f"UPDATE effects SET result = :empty WHERE {_OF_RUN} AND length(result) > 0",
    f"""
    UPDATE approvals SET title = '', details = :empty, note = ''
    WHERE {_OF_RUN} AND (title <> '' OR note <> '' OR length(details) > 0)
    """,
    f"""
    UPDATE interactions SET request = :empty, answer = :empty, actor_id = ''
    WHERE {_OF_RUN} AND (length(request) > 0 OR length(answer) > 0)
    """,
    f"""
    UPDATE deliveries SET payload = :empty, target = :empty, error_message = ''
    WHERE {_OF_RUN} AND (length(payload) > 0 OR length(target) > 0)
    """,
    # What a run kept of what it was told, whatever scope it kept it in.
    f"""
    UPDATE state SET value_json = '', deleted = 1, version = version + 1, update_time = :now
    WHERE {_OF_RUN} AND deleted = 0
    """,
    f"""
    UPDATE runs SET error_message = '', cancel_reason = ''
    WHERE {_OF_RUN} AND (error_message <> '' OR cancel_reason <> '')
    """,
)
_CONTEXTS = """
UPDATE run_snapshots SET snapshot = :empty, context = :empty, sha256 = :empty
WHERE workspace_id = :workspace_id AND (length(snapshot) > 0 OR length(context) > 0)
  AND run_id IN (SELECT run_id FROM runs WHERE workspace_id = :workspace_id AND conversation_id = :conversation_id)
"""
_EVENT = """
UPDATE events SET payload = :payload, summary = '', actor_id = '', raw_ref = '', provider_message_id = ''
WHERE workspace_id = :workspace_id AND event_id = :event_id AND payload <> :payload
"""
_DELIVERIES = """
UPDATE deliveries SET payload = :empty, target = :empty, error_message = ''
WHERE workspace_id = :workspace_id AND conversation_id = :conversation_id
  AND (length(payload) > 0 OR length(target) > 0)
"""
_ITEM = """
UPDATE transcript SET text = '', content = :empty, actor_id = '', actor_name = '', redact_time = :now, edit_time = 0,
  provider_message_id = ''
WHERE workspace_id = :workspace_id AND item_number = :item_number RETURNING conversation_id, create_time
"""
_TITLE = """
UPDATE conversations SET title = '' WHERE workspace_id = :workspace_id AND conversation_id = :conversation_id
  AND title <> ''
"""
_CONVERSATION = """
UPDATE conversations SET title = '', launcher_id = '', reply_target = '', chat_key = 'erased/' || conversation_id,
  state = 'closed', close_time = CASE WHEN close_time = 0 THEN :now ELSE close_time END
WHERE workspace_id = :workspace_id AND conversation_id = :conversation_id AND chat_key <> 'erased/' || conversation_id
"""
_LAUNCHER = """
SELECT launcher_type, launcher_id FROM conversations
WHERE workspace_id = :workspace_id AND conversation_id = :conversation_id
"""
_LEAVE = "DELETE FROM chats WHERE workspace_id = :workspace_id AND conversation_id = :conversation_id"
_STATE = """
UPDATE state SET value_json = '', deleted = 1, version = version + 1, update_time = :now
WHERE workspace_id = :workspace_id AND scope = :scope AND deleted = 0
  AND substr(scope_key, 1, length(:prefix)) = :prefix
  AND substr(scope_key, length(scope_key) - length(:suffix) + 1) = :suffix
"""
_EMPTY = b""


def redact_event(tx: Transaction, workspace_id: str, event_id: str, payload: bytes) -> int:
    params: Params = {"workspace_id": workspace_id, "event_id": event_id, "payload": event_tombstone(payload)}
    return tx.execute(_EVENT, params)


def redact_run(tx: Transaction, workspace_id: str, run_id: str) -> int:
    """Everything of a run but its transcript items."""
    params: Params = {"workspace_id": workspace_id, "run_id": run_id, "empty": _EMPTY, "now": tx.now}
    changed = [
        {"workspace_id": workspace_id, "run_id": run_id, "sequence": sequence, "payload": left}
        for sequence, payload in tx.all(_LEDGER, params)
        if (left := run_event_tombstone(payload)) != payload
    ]
    if changed:
        tx.executemany(_LEDGER_SET, changed)
    return len(changed) + sum(tx.execute(sql, params) for sql in _RUN_ROWS)


def redact_contexts(tx: Transaction, workspace_id: str, conversation_id: str) -> int:
    """What runs of the conversation were told, whoever they answered: it holds what others had said."""
    return tx.execute(
        _CONTEXTS, {"workspace_id": workspace_id, "conversation_id": conversation_id, "empty": _EMPTY}
    ) + tx.execute(_TITLE, {"workspace_id": workspace_id, "conversation_id": conversation_id})


def redact_deliveries(tx: Transaction, workspace_id: str, conversation_id: str) -> int:
    return tx.execute(_DELIVERIES, {"workspace_id": workspace_id, "conversation_id": conversation_id, "empty": _EMPTY})


def redact_items(tx: Transaction, workspace_id: str, item_numbers: Sequence[int]) -> int:
    """Items of the transcript, what finds them, and what repeats them in other words."""
    for number in item_numbers:
        params: Params = {"workspace_id": workspace_id, "item_number": number, "empty": _EMPTY, "now": tx.now}
        row = tx.one(_ITEM, params)
        forget_text(tx, number)
        if row is not None:
            forget_derived(tx, workspace_id, row[0], row[1])
    return len(item_numbers)


def close_conversation(tx: Transaction, workspace_id: str, conversation_id: str) -> int:
    """The chat is nobody's any more: what is said in it next begins a new conversation."""
    params: Params = {"workspace_id": workspace_id, "conversation_id": conversation_id, "now": tx.now}
    tx.execute(_LEAVE, params)
    return tx.execute(_CONVERSATION, params)


def is_chat_of(tx: ReadTransaction, workspace_id: str, conversation_id: str, actor_id: str) -> bool:
    """Whether it is a person's own chat, so that its place says who they are."""
    row = tx.one(_LAUNCHER, {"workspace_id": workspace_id, "conversation_id": conversation_id})
    return row is not None and row[0] not in ("group", "channel") and row[1] in ("", actor_id)


def drop_state(tx: Transaction, workspace_id: str, scope: str, prefix: str, suffix: str = "") -> int:
    """Values whose scope's key begins and ends so."""
    params: Params = {
        "workspace_id": workspace_id,
        "scope": scope,
        "prefix": prefix,
        "suffix": suffix,
        "now": tx.now,
    }
    return tx.execute(_STATE, params)


def items_of(tx: ReadTransaction, workspace_id: str, condition: str, params: Params, limit: int) -> Sequence[int]:
    """Numbers of items that are not redacted yet. `condition` is from the code."""
    sql = f"""
    SELECT item_number FROM transcript
    WHERE workspace_id = :workspace_id AND redact_time = 0 AND {condition} ORDER BY item_number LIMIT :limit
    """
    rows: list[Row] = tx.all(sql, {**params, "workspace_id": workspace_id, "limit": limit})
    return [int(row[0]) for row in rows]
