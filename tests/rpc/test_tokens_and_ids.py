"""Tokens, ids, cursors: what is made here is accepted, and nothing else is."""

import base64
import uuid

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from portway.rpc.cursor import Cursor, CursorCodec
from portway.rpc.errors import InvalidInput, NotAuthenticated, Reason
from portway.rpc.identity import Caller, Peer, Role
from portway.rpc.ids import has_prefix, new_id
from portway.rpc.tokens import FixedTokens, mint_token, parse_token, same_secret

CODEC = CursorCodec(b"k" * 32)
PEER = Peer(lambda: "unix:")
epochs = st.integers(0, 2**32 - 1)
sequences = st.integers(0, 2**64 - 1)


def test_ids_are_uuids_of_version_7_under_their_prefix_and_never_repeat() -> None:
    made = {new_id("run") for _ in range(10_000)}
    assert len(made) == 10_000
    assert all(has_prefix(one, "run") and not has_prefix(one, "evt") for one in made)
    assert {uuid.UUID(one.removeprefix("run_")).version for one in made} == {7}


@pytest.mark.parametrize("text", ["", "run_", "run_123", "run_" + "g" * 32, "run_" + "A" * 32, "xrun_" + "0" * 32])
def test_what_is_no_id_is_seen(text: str) -> None:
    assert not has_prefix(text, "run")


def test_a_token_is_taken_apart_as_it_was_made_and_its_text_is_not_in_its_repr() -> None:
    minted = mint_token("admin")
    parsed = parse_token(minted.text)
    assert (parsed.kind, parsed.token_id) == ("admin", minted.token_id)
    assert same_secret(parsed.secret_hash, minted.secret_hash)
    assert minted.text not in repr(minted)
    assert has_prefix(minted.token_id, "tok")


@given(st.text())
def test_other_texts_are_no_tokens(text: str) -> None:
    with pytest.raises(NotAuthenticated):
        parse_token(text)


def test_a_token_kind_is_a_short_word() -> None:
    with pytest.raises(ValueError, match="lower-case letters"):
        mint_token("Admin_1")


async def test_fixed_tokens_know_their_callers_and_nobody_else() -> None:
    known, other = mint_token("svc"), mint_token("svc")
    caller = Caller(Role.BOX, "default", known.token_id, "host")
    tokens = FixedTokens([(known.text, caller)])
    assert await tokens.authenticate(known.text, PEER) is caller
    for wrong in (other.text, known.text[:-1], "", f"pw_svc_{known.token_id[4:]}_{'0' * 64}"):
        with pytest.raises(NotAuthenticated):
            await tokens.authenticate(wrong, PEER)


@given(epochs, sequences, st.text())
def test_a_cursor_comes_back_as_it_was_given_out(epoch: int, sequence: int, stream: str) -> None:
    token = CODEC.write(stream, Cursor(epoch, sequence))
    assert CODEC.read(token, stream) == Cursor(epoch, sequence)


@given(st.text(), st.text(max_size=300))
def test_a_page_token_comes_back_as_it_was_given_out(listing: str, position: str) -> None:
    assert CODEC.read_page(CODEC.write_page(listing, position), listing) == position


@given(st.text(max_size=200))
def test_a_cursor_made_by_hand_is_refused(token: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        CODEC.read(token, "runs", field="after")
    assert refused.value.reason == Reason.INVALID_CURSOR
    assert [one.field for one in refused.value.fields] == ["after"]


@given(st.text(), st.text())
def test_a_cursor_of_another_stream_list_or_key_is_refused(one: str, other: str) -> None:
    assume(one != other)
    token = CODEC.write(one, Cursor(1, 1))
    for codec, stream in ((CODEC, other), (CursorCodec(b"o" * 32), one)):
        with pytest.raises(InvalidInput):
            codec.read(token, stream)
    with pytest.raises(InvalidInput):
        CODEC.read_page(token, one)


@given(st.integers(0, 27), st.integers(1, 255))
def test_a_changed_cursor_is_refused(place: int, change: int) -> None:
    sealed = bytearray(base64.urlsafe_b64decode(CODEC.write("runs", Cursor(1, 7)) + "=="))
    sealed[place] ^= change
    with pytest.raises(InvalidInput):
        CODEC.read(base64.urlsafe_b64encode(bytes(sealed)).decode().rstrip("="), "runs")


def test_cursors_are_ordered_by_epoch_then_sequence() -> None:
    assert Cursor(1, 9) < Cursor(2, 1) < Cursor(2, 2)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        CursorCodec(b"short")


def test_a_list_may_be_named_by_a_path_whose_bytes_are_no_text() -> None:
    name = b"/workspace/\xff\xfe".decode("utf-8", "surrogateescape")
    token = CODEC.write_page(name, "after")
    assert CODEC.read_page(token, name) == "after"
    with pytest.raises(InvalidInput):
        CODEC.read_page("//..//.", name)
