"""Text cut into what the full-text index holds: words, and pairs of characters for scripts without spaces.

The cutting is the application's, so that both databases find the same. A change here needs a rebuild of the index.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

# Han (with extensions and compatibility forms), Kana, Bopomofo, Hangul, and the iteration marks among them.
_DENSE = (
    "\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u3100-\u312f\u3130-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
_PIECE = re.compile(rf"(?P<dense>[{_DENSE}]+)|(?P<word>[^\W_{_DENSE}]+)")

# Longer words (hashes, encoded data) are of no use to a search and would swell the index.
_WORD_LIMIT = 64
_QUERY_PIECES = 16


def index_terms(text: str) -> str:
    """The terms of a text, separated by spaces, in order.

    A run ABC of a dense script gives AB BC C: pairs for queries of two and more, the last alone for queries of one.
    """
    return " ".join(_terms(text))


@dataclass(frozen=True, slots=True)
class Piece:
    """What a text must hold: these terms, one right after the other. `prefix`: the only term is the begin of one."""

    terms: tuple[str, ...]
    prefix: bool = False


def query_pieces(query: str) -> list[Piece]:
    """The pieces of a query, all of which a text must hold; none when the query holds nothing to search."""
    pieces: list[Piece] = []
    for match in _PIECE.finditer(_folded(query)):
        if len(pieces) == _QUERY_PIECES:
            break
        run = match.group("dense")
        if run is None:
            pieces.append(Piece((match.group("word")[:_WORD_LIMIT],)))
        elif len(run) == 1:
            pieces.append(Piece((run,), prefix=True))
        else:
            # Neighbours in the text are neighbours in the index: a phrase, so that ABC does not match AB … BC.
            pieces.append(Piece(tuple(run[at : at + 2] for at in range(len(run) - 1))))
    return pieces


def _terms(text: str) -> Iterator[str]:
    for match in _PIECE.finditer(_folded(text)):
        run = match.group("dense")
        if run is None:
            yield match.group("word")[:_WORD_LIMIT]
            continue
        for at in range(len(run)):
            yield run[at : at + 2]


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
