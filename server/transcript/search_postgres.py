"""PostgreSQL's index: a tsvector of the application's own terms, without positions.

The vector finds the items that hold all terms; where terms must be neighbours, the row's own list of terms says whether
they are. (Positions in a tsvector end at 16,383, and 256 of one term: a phrase far down in a long text would be lost.)
"""

from collections.abc import Iterator, Sequence

from portway.server.storage_engine.transaction import SqlValue, Transaction
from portway.server.transcript.segments import Piece

_ADD = """
INSERT INTO transcript_search (item_number, terms, vector)
VALUES (:item_number, :terms, array_to_tsvector(string_to_array(:lexemes, ' ')))
"""
# A tsvector holds a MiB of lexemes at most. Of a longer text, what comes first is found.
_VECTOR_BYTES = 600_000
_BYTES_OF_A_LEXEME = 8


class TsvectorIndex:
    """Scope and terms share one vector, so that one index answers for both; a mark keeps them apart."""

    key = "item_number"

    def add(self, tx: Transaction, item_number: int, scope: Sequence[str], terms: str) -> None:
        lexemes = [*(f":{term}" for term in scope), *_first_terms(terms)]
        tx.execute(_ADD, {"item_number": item_number, "terms": f" {terms} ", "lexemes": " ".join(lexemes)})

    def condition(self, scope: Sequence[Sequence[str]], pieces: Sequence[Piece]) -> tuple[str, dict[str, SqlValue]]:
        wanted = ["(" + " | ".join(f"':{term}'" for term in choices) + ")" for choices in scope]
        conditions = ["vector @@ CAST(:match AS tsquery)"]
        params: dict[str, SqlValue] = {}
        for number, piece in enumerate(pieces):
            # Terms hold letters, marks and digits only: nothing in them is a sign of the query's own.
            wanted += [f"'{term}'" + ":*" * piece.prefix for term in piece.terms]
            if len(piece.terms) > 1:
                conditions.append(f"strpos(terms, :phrase_{number}) > 0")
                params[f"phrase_{number}"] = f" {' '.join(piece.terms)} "
        params["match"] = " & ".join(wanted)
        return " AND ".join(conditions), params


def _first_terms(terms: str) -> Iterator[str]:
    room = _VECTOR_BYTES
    for term in dict.fromkeys(terms.split(" ")):
        room -= len(term.encode()) + _BYTES_OF_A_LEXEME
        if room < 0:
            return
        if term:
            yield term
