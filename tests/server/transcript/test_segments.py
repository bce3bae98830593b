"""Text is cut so that what a person remembers of a message finds it."""

import sqlite3
from contextlib import closing

from hypothesis import given, settings
from hypothesis import strategies as st

from portway.server.transcript.search_sqlite import expression
from portway.server.transcript.segments import index_terms, query_pieces

_DENSE = st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x4E20), min_size=1, max_size=12)
_WORD = st.text("abcxyz019", min_size=1, max_size=6)


def finds(query: str, text: str) -> bool:
    """As the database does it."""
    pieces = query_pieces(query)
    if not pieces:
        return False
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(
            "CREATE VIRTUAL TABLE t USING fts5(terms, "
            "tokenize = \"unicode61 remove_diacritics 0 categories 'L* M* N* Co S* P*'\")"
        )
        connection.execute("INSERT INTO t VALUES (?)", (index_terms(text),))
        return bool(connection.execute("SELECT 1 FROM t WHERE t MATCH ?", (expression(pieces),)).fetchall())


@settings(max_examples=200, deadline=None)
@given(before=st.text(max_size=5), piece=_DENSE, after=st.text(max_size=5))
def test_every_part_of_a_dense_script_is_found_in_any_text(before: str, piece: str, after: str) -> None:
    assert finds(piece, before + piece + after)


@settings(max_examples=200, deadline=None)
@given(piece=_DENSE, text=_DENSE)
def test_what_does_not_stand_there_is_not_found(piece: str, text: str) -> None:
    assert finds(piece, text) == (piece in text)


@settings(max_examples=200, deadline=None)
@given(words=st.lists(_WORD, min_size=1, max_size=8), data=st.data())
def test_words_are_found_in_any_order_and_case(words: list[str], data: st.DataObject) -> None:
    some = data.draw(st.lists(st.sampled_from(words), min_size=1))
    assert finds(" ".join(some).upper(), ", ".join(words))


@settings(max_examples=300, deadline=None)
@given(query=st.text(max_size=30), text=st.text(max_size=30))
def test_no_query_is_an_error(query: str, text: str) -> None:
    assert finds(query, text) in (True, False)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=40))
def test_a_text_finds_itself(text: str) -> None:
    assert finds(text, text) == bool(query_pieces(text))


def test_a_query_is_bounded() -> None:
    assert len(query_pieces("a b " * 100)) == 16
    assert finds("x" * 1000, "x" * 1000)
