"""The full-text index of the transcript: what both databases have in common. Each has its own statements.

Each row of the index also holds its workspace, conversation, role and kind as terms, so that a search reads only what
is asked for, however large the rest is. Results come newest first.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from portway.server.storage_engine.dialect import Dialect
from portway.server.storage_engine.transaction import ReadTransaction, Row, SqlValue, Transaction
from portway.server.transcript.search_postgres import TsvectorIndex
from portway.server.transcript.search_sqlite import Fts5Index
from portway.server.transcript.segments import Piece, index_terms, query_pieces
from portway.server.transcript.types import SearchQuery

_TEXTS = """
SELECT item_number, role, kind, text FROM transcript
WHERE workspace_id = :workspace_id AND conversation_id = :conversation_id AND text <> ''
"""
_FORGET = "DELETE FROM transcript_search WHERE {key} = :item_number"
_SEARCH = """
SELECT {columns} FROM transcript_search JOIN transcript ON transcript.item_number = transcript_search.{key}
WHERE {matches} AND workspace_id = :workspace_id
  AND (:conversation_id = '' OR conversation_id = :conversation_id)
  AND (:thread_id = '' OR thread_id = :thread_id)
  AND create_time > :after_time AND create_time < :before_time
ORDER BY transcript_search.{key} DESC LIMIT :limit
"""


class Index(Protocol):
    """The index of one database. `key` is its column with the transcript's item number."""

    key: str

    def add(self, tx: Transaction, item_number: int, scope: Sequence[str], terms: str) -> None:
        """Make an item findable. `scope` are terms that no text holds."""

    def condition(self, scope: Sequence[Sequence[str]], pieces: Sequence[Piece]) -> tuple[str, dict[str, SqlValue]]:
        """SQL and its parameters that are true for items with one term of each scope and every piece."""


_INDEXES: dict[Dialect, Index] = {Dialect.SQLITE: Fts5Index(), Dialect.POSTGRESQL: TsvectorIndex()}


@dataclass(frozen=True, slots=True)
class Placement:
    """What narrows a search to an item, besides its words."""

    workspace_id: str
    conversation_id: str
    role: str
    kind: str


def index_text(tx: Transaction, item_number: int, placement: Placement, text: str) -> None:
    """Make an item findable."""
    scope = (
        _term("w", placement.workspace_id),
        _term("c", placement.workspace_id, placement.conversation_id),
        _term("r", placement.role),
        _term("k", placement.kind),
    )
    _INDEXES[tx.dialect].add(tx, item_number, scope, index_terms(text))


def copy_index(tx: Transaction, workspace_id: str, conversation_id: str) -> None:
    """Make the items of a new conversation findable."""
    rows = tx.all(_TEXTS, {"workspace_id": workspace_id, "conversation_id": conversation_id})
    for item_number, role, kind, text in rows:
        index_text(tx, item_number, Placement(workspace_id, conversation_id, role, kind), text)


def forget_text(tx: Transaction, item_number: int) -> None:
    """Make an item unfindable."""
    tx.execute(_FORGET.format(key=_INDEXES[tx.dialect].key), {"item_number": item_number})


def search_rows(tx: ReadTransaction, workspace_id: str, query: SearchQuery, columns: str) -> list[Row]:
    """Rows of the transcript that match, newest first. Nothing matches a query without a word."""
    pieces = query_pieces(query.text)
    if not pieces:
        return []
    place = _term("c", workspace_id, query.conversation_id) if query.conversation_id else _term("w", workspace_id)
    scope = [[place]]
    for kind, names in (("r", query.roles), ("k", query.kinds)):
        if names:
            scope.append([_term(kind, name) for name in sorted(names)])
    index = _INDEXES[tx.dialect]
    matches, sought = index.condition(scope, pieces)
    params: dict[str, SqlValue] = {
        **sought,
        "workspace_id": workspace_id,
        "conversation_id": query.conversation_id,
        "thread_id": query.thread_id,
        "after_time": query.after_time,
        "before_time": query.before_time,
        "limit": query.limit,
    }
    return tx.all(_SEARCH.format(columns=columns, key=index.key, matches=matches), params)


@lru_cache(maxsize=4096)
def _term(kind: str, *names: str) -> str:
    # A digest, because an id may hold characters that separate terms.
    return kind + hashlib.sha256("\0".join(names).encode()).hexdigest()[:20]
