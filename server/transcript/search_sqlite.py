"""SQLite's index: FTS5, with scope and terms in columns of their own."""

from collections.abc import Sequence

from portway.server.storage_engine.transaction import SqlValue, Transaction
from portway.server.transcript.segments import Piece

_ADD = "INSERT INTO transcript_search (rowid, scope, terms) VALUES (:item_number, :scope, :terms)"


class Fts5Index:
    """Stops reading as soon as it has enough, from the newest on."""

    key = "rowid"

    def add(self, tx: Transaction, item_number: int, scope: Sequence[str], terms: str) -> None:
        tx.execute(_ADD, {"item_number": item_number, "scope": " ".join(scope), "terms": terms})

    def condition(self, scope: Sequence[Sequence[str]], pieces: Sequence[Piece]) -> tuple[str, dict[str, SqlValue]]:
        places = " AND ".join(f"({' OR '.join(choices)})" for choices in scope)
        return "transcript_search MATCH :match", {"match": f"scope : ({places}) AND terms : ({expression(pieces)})"}


def expression(pieces: Sequence[Piece]) -> str:
    """The FTS5 expression that finds texts with every piece."""
    return " AND ".join(f'"{" ".join(piece.terms)}"' + "*" * piece.prefix for piece in pieces)
