"""Signed tokens: what is let in, and everything that is not."""

import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from portway.rpc.errors import NotAuthenticated, Reason
from portway.rpc.ids import new_id
from portway.rpc.pass_keys import PassKeys
from portway.rpc.passes import BOX, LONGEST_SECONDS, SKEW_SECONDS, Claims, SigningKey, check_pass
from portway.rpc.redaction import redact_text

NOW = 1_800_000_000
KEY = SigningKey.of("key_a", bytes(range(32)))
GOOD = Claims("key_a", BOX, "default", "operator", "ada", "ada", NOW, NOW + 60)


def sign(key: SigningKey = KEY, **claims: Any) -> str:
    return key.sign(new_id("tok"), dataclasses.replace(GOOD, **claims))


def checked(text: str, now: float = NOW) -> Claims:
    return check_pass(text, {"key_a": KEY.public}, BOX, now)[1]


def test_a_pass_says_what_it_was_signed_for_until_its_end() -> None:
    token_id = new_id("tok")
    text = KEY.sign(token_id, GOOD)
    assert check_pass(text, {"key_a": KEY.public}, BOX, NOW) == (token_id, GOOD)
    assert checked(text, NOW + 59.9) == GOOD
    with pytest.raises(NotAuthenticated) as refused:
        checked(text, NOW + 60)
    assert refused.value.reason is Reason.TOKEN_EXPIRED


@pytest.mark.parametrize(
    "claims",
    [
        {"audience": "runtime"},
        {"audience": ""},
        {"workspace_id": "*"},
        {"workspace_id": ""},
        {"role": "admin"},
        {"role": "box"},
        {"role": "nobody"},
        {"key_id": "key_b"},
        {"expire_time": NOW + LONGEST_SECONDS + 1},
        {"expire_time": NOW},
        {"issue_time": NOW + SKEW_SECONDS + 1, "expire_time": NOW + SKEW_SECONDS + 30},
    ],
)
def test_what_a_host_would_not_say_is_refused_even_when_it_is_signed(claims: dict[str, Any]) -> None:
    checked(sign())
    with pytest.raises(NotAuthenticated) as refused:
        checked(sign(**claims))
    assert refused.value.reason is Reason.TOKEN_INVALID


def test_a_host_whose_clock_is_a_little_ahead_is_understood() -> None:
    checked(sign(issue_time=NOW + SKEW_SECONDS, expire_time=NOW + SKEW_SECONDS + 10))


def test_a_change_anywhere_is_refused() -> None:
    text = sign()
    start = len("pw_pass_")
    for place in range(start, len(text)):
        if text[place] in "_-":
            continue
        changed = text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :]
        with pytest.raises(NotAuthenticated):
            checked(changed)


def test_the_signature_of_another_key_is_refused() -> None:
    with pytest.raises(NotAuthenticated):
        checked(sign(SigningKey.of("key_a", os.urandom(32))))


@pytest.mark.parametrize(
    "said",
    [b"", b"[]", b"{}", b"null", b"\xff", b"[" * 2000, json.dumps({**dataclasses.asdict(GOOD), "more": 1}).encode()]
    + [json.dumps({**dataclasses.asdict(GOOD), name: 1.5}).encode() for name in dataclasses.asdict(GOOD)],
)
def test_claims_of_another_form_are_refused(said: bytes) -> None:
    text = sign()
    head, _, signature = text.rpartition("-")
    with pytest.raises(NotAuthenticated):
        checked(f"{head.rpartition('_')[0]}_{said.hex()}-{signature}")


def test_nothing_of_a_pass_but_its_id_is_logged() -> None:
    text = sign()
    shown = redact_text(f"the token {text} came")
    assert text.split("_")[3][:16] not in shown
    assert text.rpartition("-")[2][:16] not in shown


def test_keys_come_go_and_are_over_while_the_server_runs(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    keys = PassKeys(file)
    assert keys.current() == {}

    def write(content: object, mode: int = 0o644) -> None:
        new = tmp_path / "new"
        new.write_text(content if isinstance(content, str) else json.dumps(content))
        new.chmod(mode)
        new.rename(file)

    mine = {"id": "key_a", "ed25519": KEY.public.hex()}
    write({"keys": [mine, {"id": "short", "ed25519": "00"}]})
    assert keys.current() == {"key_a": KEY.public}
    write("torn {")
    assert keys.current() == {"key_a": KEY.public}
    write({"keys": [{**mine, "until": time.time() - 1}]})
    assert keys.current() == {}
    write({"keys": [{**mine, "until": time.time() + 60}]})
    assert keys.current() == {"key_a": KEY.public}
    write({"keys": [mine]}, mode=0o666)
    assert keys.current() == {}
    write({"keys": [mine]})
    file.unlink()
    assert keys.current() == {}
