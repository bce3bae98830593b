"""Characters that a provider sends in halves."""

import pytest

from portway.server.models.library.characters import Halves, whole


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["plain", " text"], "plain text"),
        (["a\ud83d", "\ude00b"], "a😀b"),
        (["a\ud83d", "b"], "a\ufffdb"),
        (["\ude00", "b"], "\ufffdb"),
        (["\ud83d", "\ud83d", "\ude00"], "\ufffd😀"),
        (["\ud83d\ude00"], "😀"),
    ],
)
def test_halves_are_joined_over_pieces_and_replaced_where_the_other_is_missing(pieces: list[str], text: str) -> None:
    halves = Halves()
    assert "".join(halves.joined(piece) for piece in pieces) == text


def test_text_that_is_whole_stays_as_it_is() -> None:
    text = "你好 😀"
    assert whole(text) is text
