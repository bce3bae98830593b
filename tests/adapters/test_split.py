"""Texts cut to what a platform takes."""

import re
from collections.abc import Callable

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from portway.adapters.kit.split import split
from portway.adapters.kit.types import SizeUnit

MEASURES: dict[SizeUnit, Callable[[str], int]] = {
    SizeUnit.CHARACTERS: len,
    SizeUnit.UTF16: lambda text: len(text.encode("utf-16-le")) // 2,
    SizeUnit.BYTES: lambda text: len(text.encode("utf-8")),
}
UNITS = st.sampled_from(list(SizeUnit))
FAMILY = "👩\u200d👩\u200d👧\u200d👦"
WORDS = st.sampled_from(
    ["word", "a", "Ünïcödé", "你好世界", "👍🏽", FAMILY, "🇨🇳", "e\u0301", "- item", "\n", "\n\n", " "]
)


def characters(text: str) -> list[str]:
    """As people see them, without spaces, which a cut may swallow."""
    return [match[0] for match in regex.finditer(r"\X", text) if match[0].strip()]


def bare(text: str) -> str:
    """Without spaces and without the marks of code, which a cut inside code repeats."""
    return re.sub(r"\s+", "", re.sub(r"^\s*`{3,}.*$", "", text, flags=re.MULTILINE))


@pytest.mark.parametrize("unit", list(SizeUnit))
def test_a_text_that_fits_is_left_as_it_is(unit: SizeUnit) -> None:
    assert split("  hello\n\n", 64, unit) == ["  hello\n\n"]
    assert split("", 64, unit) == [""]


def test_units_are_counted_as_the_platform_counts_them() -> None:
    thumbs = "👍" * 40
    assert len(split(thumbs, 64, SizeUnit.CHARACTERS)) == 1
    assert [len(piece) for piece in split(thumbs, 64, SizeUnit.UTF16)] == [32, 8]
    assert [len(piece) for piece in split(thumbs, 64, SizeUnit.BYTES)] == [16, 16, 8]


def test_cuts_lie_between_lines_then_sentences_then_words() -> None:
    lines = "\n".join(["x" * 40, "y" * 40])
    assert split(lines, 64, SizeUnit.CHARACTERS) == ["x" * 40, "y" * 40]
    sentences = "One short sentence stands here by itself, longer than half. Another one follows it."
    assert split(sentences, 70, SizeUnit.CHARACTERS)[0].endswith("half.")
    words = "word " * 30
    assert all(set(piece.split()) == {"word"} for piece in split(words, 64, SizeUnit.CHARACTERS))
    chinese = "这是第一句话，它比较长一些，需要占用一条消息的一半以上，这样才会断开。" + "第二句话跟在后面。" * 4
    assert split(chinese, 64, SizeUnit.CHARACTERS)[0].endswith("。")


def test_a_block_of_code_that_fits_is_not_cut() -> None:
    code = "```py\n" + "\n".join(f"line {number}" for number in range(5)) + "\n```"
    pieces = split("x" * 50 + "\n" + code, 80, SizeUnit.CHARACTERS)
    assert pieces == ["x" * 50, code]


def test_a_block_of_code_that_is_too_long_is_closed_and_opened_again() -> None:
    code = "```py\n" + "\n".join(f"line number {number}" for number in range(20)) + "\n```"
    pieces = split("before\n" + code + "\nafter", 80, SizeUnit.CHARACTERS)
    assert len(pieces) > 3
    assert all(piece.count("```") % 2 == 0 for piece in pieces)
    assert sum(piece.count("```py") for piece in pieces) >= 4
    lines = [line for piece in pieces for line in piece.split("\n") if line.startswith("line")]
    assert lines == [f"line number {number}" for number in range(20)]


def test_a_limit_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="64"):
        split("text", 10, SizeUnit.BYTES)


@given(st.lists(WORDS, max_size=120).map("".join), st.integers(64, 200), UNITS)
def test_every_piece_fits_and_nothing_is_lost(text: str, limit: int, unit: SizeUnit) -> None:
    pieces = split(text, limit, unit)
    assert all(MEASURES[unit](piece) <= limit for piece in pieces)
    assert bare("".join(pieces)) == bare(text)


@given(st.lists(WORDS.filter(str.strip), min_size=30, max_size=120).map("".join), st.integers(64, 120), UNITS)
def test_characters_as_people_see_them_stay_whole(text: str, limit: int, unit: SizeUnit) -> None:
    pieces = split(text, limit, unit)
    assert [one for piece in pieces for one in characters(piece)] == characters(text)


@given(
    st.lists(st.tuples(st.booleans(), st.text("abc \n", max_size=150)), max_size=6),
    st.integers(64, 160),
    UNITS,
)
def test_code_and_prose_together_keep_their_content(parts: list[tuple[bool, str]], limit: int, unit: SizeUnit) -> None:
    text = "\n".join(f"```\n{body}\n```" if is_code else body for is_code, body in parts)
    pieces = split(text, limit, unit)
    assert all(MEASURES[unit](piece) <= limit for piece in pieces)
    assert all(piece.count("```") % 2 == 0 for piece in pieces)
    assert bare("\n".join(pieces)) == bare(text)
