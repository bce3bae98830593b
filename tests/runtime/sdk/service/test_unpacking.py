"""Bodies are unpacked a little at a time, whatever they unpack to."""

import gzip
import json

import pytest

from portway.runtime.sdk.service.reading import parse, whole
from portway.runtime.sdk.service.unpacking import PIECE, Unpackable, Unpacker


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_what_is_packed_comes_out_whole(size: int) -> None:
    text = bytes(range(256)) * 2000
    packed = gzip.compress(text[:1000]) + gzip.compress(text[1000:])
    unpacker = Unpacker("GZIP")
    out = [piece for at in range(0, len(packed), size) for piece in unpacker.feed(packed[at : at + size])]
    unpacker.finish()
    assert b"".join(out) == text
    assert max(len(piece) for piece in out) <= PIECE


def test_a_bomb_comes_in_small_pieces() -> None:
    bomb = gzip.compress(b"0" * 20_000_000)
    assert len(bomb) < 50_000
    pieces = Unpacker("gzip").feed(bomb)
    assert all(len(next(pieces)) <= PIECE for _ in range(20))


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "gzip,identity", "zstd"])
def test_what_was_not_asked_for_is_refused(encoding: str) -> None:
    with pytest.raises(Unpackable):
        Unpacker(encoding)


def test_broken_and_cut_bodies_are_refused() -> None:
    with pytest.raises(Unpackable, match="broken"):
        list(Unpacker("gzip").feed(b"plain text"))
    cut = Unpacker("gzip")
    list(cut.feed(gzip.compress(b"text" * 100)[:-9]))
    with pytest.raises(Unpackable, match="cut"):
        cut.finish()


@pytest.mark.parametrize("text", ["[" * 200_000, "NaN", "[Infinity]", "{", "", '{"a": ' * 100_000, "1" * 10_000])
def test_what_is_no_json_is_one_kind_of_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


def test_halves_of_characters_are_joined_or_replaced() -> None:
    assert whole(json.loads('"a\\ud83d"') + json.loads('"\\ude00b"')) == "a😀b"
    assert whole(json.loads('"\\ude00 \\ud83d"')) == "\ufffd \ufffd"
    assert whole("grüße 😀") == "grüße 😀"
