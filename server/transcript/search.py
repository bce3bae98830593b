"""The full-text index of the transcript, in SQLite's FTS5. Another database has its own version of this file.

Each row of the index also holds its workspace, conversation, role and kind as terms, so that a search reads only what
is asked for, however large the rest is. Results come newest first: the search stops as soon as it has enough.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from portway.server.storage_engine.transaction import ReadTransaction, Row, SqlValue, Transaction
from portway.server.transcript.segments import index_terms, match_expression
from portway.server.transcript.types import SearchQuery

_INDEX = "INSERT INTO transcript_search (rowid, scope, terms) VALUES (:item_number, :scope, :terms)"
_TEXTS = """
SELECT item_number, role, kind, text FROM transcript
WHERE workspace_id = :workspace_id AND conversation_id = :conversation_id AND text <> ''
"""
_FORGET = "DELETE FROM transcript_search WHERE rowid = :item_number"
_SEARCH = """
SELECT {columns} FROM transcript_search JOIN transcript ON item_number = transcript_search.rowid
WHERE transcript_search MATCH :match AND workspace_id = :workspace_id
  AND (:conversation_id = '' OR conversation_id = :conversation_id)
  AND (:thread_id = '' OR thread_id = :thread_id)
  AND create_time > :after_time AND create_time < :before_time
ORDER BY transcript_search.rowid DESC LIMIT :limit
"""


@dataclass(frozen=True, slots=True)
class Placement:
    """What narrows a search to an item, besides its words."""

    workspace_id: str
    conversation_id: str
    role: str
    kind: str


def index_text(tx: Transaction, item_number: int, placement: Placement, text: str) -> None:
    """Make an item findable."""
    scope = " ".join(
        (
            _term("w", placement.workspace_id),
            _term("c", placement.workspace_id, placement.conversation_id),
            _term("r", placement.role),
            _term("k", placement.kind),
        )
    )
    tx.execute(_INDEX, {"item_number": item_number, "scope": scope, "terms": index_terms(text)})


def copy_index(tx: Transaction, workspace_id: str, conversation_id: str) -> None:
    """Make the items of a new conversation findable."""
    rows = tx.all(_TEXTS, {"workspace_id": workspace_id, "conversation_id": conversation_id})
    for item_number, role, kind, text in rows:
        index_text(tx, item_number, Placement(workspace_id, conversation_id, role, kind), text)


def forget_text(tx: Transaction, item_number: int) -> None:
    """Make an item unfindable."""
    tx.execute(_FORGET, {"item_number": item_number})


def search_rows(tx: ReadTransaction, workspace_id: str, query: SearchQuery, columns: str) -> list[Row]:
    """Rows of the transcript that match, newest first. Nothing matches a query without a word."""
    expression = match_expression(query.text)
    if not expression:
        return []
    scope = _term("c", workspace_id, query.conversation_id) if query.conversation_id else _term("w", workspace_id)
    for kind, names in (("r", query.roles), ("k", query.kinds)):
        if names:
            scope += f" AND ({' OR '.join(_term(kind, name) for name in sorted(names))})"
    params: dict[str, SqlValue] = {
        "match": f"scope : ({scope}) AND terms : ({expression})",
        "workspace_id": workspace_id,
        "conversation_id": query.conversation_id,
        "thread_id": query.thread_id,
        "after_time": query.after_time,
        "before_time": query.before_time,
        "limit": query.limit,
    }
    return tx.all(_SEARCH.format(columns=columns), params)


@lru_cache(maxsize=4096)
def _term(kind: str, *names: str) -> str:
    # A digest, because an id may hold characters that separate terms.
    return kind + hashlib.sha256("\0".join(names).encode()).hexdigest()[:20]
