"""The full-text index of the transcript, in SQLite's FTS5. Another database has its own version of this file.

Each row of the index also holds the names of its workspace and conversation as terms, so that a search reads only what
is in its scope, however large the rest is. Results come newest first: the search stops as soon as it has enough.
"""

import hashlib
from functools import lru_cache

from portway.server.storage_engine.transaction import ReadTransaction, Row, SqlValue, Transaction
from portway.server.transcript.segments import index_terms, match_expression
from portway.server.transcript.types import SearchQuery

_INDEX = "INSERT INTO transcript_search (rowid, scope, terms) VALUES (:item_number, :scope, :terms)"
_TEXTS = """
SELECT item_number, text FROM transcript
WHERE workspace_id = :workspace_id AND conversation_id = :conversation_id AND text <> ''
"""
_FORGET = "DELETE FROM transcript_search WHERE rowid = :item_number"
_SEARCH = """
SELECT {columns} FROM transcript_search JOIN transcript ON item_number = transcript_search.rowid
WHERE transcript_search MATCH :match AND workspace_id = :workspace_id
  AND (:conversation_id = '' OR conversation_id = :conversation_id)
  AND (:thread_id = '' OR thread_id = :thread_id)
  AND (:roles = '' OR instr(:roles, ' ' || role || ' ') > 0)
  AND (:kinds = '' OR instr(:kinds, ' ' || kind || ' ') > 0)
  AND create_time > :after_time AND create_time < :before_time
ORDER BY transcript_search.rowid DESC LIMIT :limit
"""


def index_text(tx: Transaction, item_number: int, workspace_id: str, conversation_id: str, text: str) -> None:
    """Make an item findable."""
    scope = f"{_term('w', workspace_id)} {_term('c', workspace_id, conversation_id)}"
    tx.execute(_INDEX, {"item_number": item_number, "scope": scope, "terms": index_terms(text)})


def copy_index(tx: Transaction, workspace_id: str, conversation_id: str) -> None:
    """Make the items of a new conversation findable."""
    rows = tx.all(_TEXTS, {"workspace_id": workspace_id, "conversation_id": conversation_id})
    for item_number, text in rows:
        index_text(tx, item_number, workspace_id, conversation_id, text)


def forget_text(tx: Transaction, item_number: int) -> None:
    """Make an item unfindable."""
    tx.execute(_FORGET, {"item_number": item_number})


def search_rows(tx: ReadTransaction, workspace_id: str, query: SearchQuery, columns: str) -> list[Row]:
    """Rows of the transcript that match, newest first. Nothing matches a query without a word."""
    expression = match_expression(query.text)
    if not expression:
        return []
    scope = _term("c", workspace_id, query.conversation_id) if query.conversation_id else _term("w", workspace_id)
    params: dict[str, SqlValue] = {
        "match": f"scope : {scope} AND terms : ({expression})",
        "workspace_id": workspace_id,
        "conversation_id": query.conversation_id,
        "thread_id": query.thread_id,
        "roles": _list(query.roles),
        "kinds": _list(query.kinds),
        "after_time": query.after_time,
        "before_time": query.before_time,
        "limit": query.limit,
    }
    return tx.all(_SEARCH.format(columns=columns), params)


def _list(names: frozenset[str]) -> str:
    return f" {' '.join(sorted(names))} " if names else ""


@lru_cache(maxsize=4096)
def _term(kind: str, *names: str) -> str:
    # A digest, because an id may hold characters that separate terms.
    return kind + hashlib.sha256("\0".join(names).encode()).hexdigest()[:20]
