"""Service credentials come from a private file that holds only hashes."""

import json
import time
from pathlib import Path

import pytest

from portway.rpc.configuration import ConfigurationError
from portway.rpc.errors import NotAuthenticated
from portway.rpc.identity import Peer, Role
from portway.rpc.token_file import TokenFile
from portway.rpc.tokens import MintedToken, mint_token

PEER = Peer(lambda: "ipv4:127.0.0.1:1")


def _write(path: Path, token: MintedToken, role: str = "runtime", mode: int = 0o600) -> Path:
    entry = {"id": token.token_id, "sha256": token.secret_hash.hex(), "role": role, "workspace_id": "*"}
    path.write_text(json.dumps({"tokens": [entry]}))
    path.chmod(mode)
    return path


async def test_a_token_in_the_file_is_its_caller(tmp_path: Path) -> None:
    token = mint_token("service")
    caller = await TokenFile(_write(tmp_path / "file", token)).authenticate(token.text, PEER)
    assert (caller.role, caller.workspace_id, caller.token_id) == (Role.RUNTIME, "*", token.token_id)


async def test_a_wrong_secret_and_an_unknown_token_are_refused_alike(tmp_path: Path) -> None:
    token, other = mint_token("service"), mint_token("service")
    file = TokenFile(_write(tmp_path / "file", token))
    wrong = token.text[:-64] + other.text[-64:]
    messages = set()
    for text in (wrong, other.text):
        with pytest.raises(NotAuthenticated) as caught:
            await file.authenticate(text, PEER)
        messages.add(caught.value.message)
    assert len(messages) == 1


async def test_tokens_are_given_and_taken_away_while_it_is_used(tmp_path: Path) -> None:
    first, second = mint_token("service"), mint_token("service")
    path = _write(tmp_path / "file", first)
    file = TokenFile(path)
    caller = await file.authenticate(first.text, PEER)
    _write(tmp_path / "next", second).replace(path)
    await file.authenticate(second.text, PEER)
    with pytest.raises(NotAuthenticated):
        await file.authenticate(first.text, PEER)
    with pytest.raises(NotAuthenticated):
        await file.check_standing(caller)
    # Torn, or open to others: the last good one holds.
    path.write_text("{")
    await file.authenticate(second.text, PEER)
    path.unlink()
    await file.authenticate(second.text, PEER)


async def test_what_is_included_may_come_late_and_what_is_taken_out_is_gone(tmp_path: Path) -> None:
    own, admin = mint_token("service"), mint_token("admin")
    path = _write(tmp_path / "file", own)
    path.write_text(json.dumps({**json.loads(path.read_text()), "include": ["admins.json"]}))
    file = TokenFile(path)
    with pytest.raises(NotAuthenticated):
        await file.authenticate(admin.text, PEER)
    _write(tmp_path / "new", admin, "admin").replace(tmp_path / "admins.json")
    assert (await file.authenticate(admin.text, PEER)).role is Role.ADMIN
    await file.authenticate(own.text, PEER)
    (tmp_path / "admins.json").unlink()
    with pytest.raises(NotAuthenticated):
        await file.authenticate(admin.text, PEER)
    await file.authenticate(own.text, PEER)


async def test_a_token_may_have_two_secrets_and_each_its_end(tmp_path: Path) -> None:
    old = mint_token("admin")
    new = mint_token("admin", old.token_id)
    path = _write(tmp_path / "file", new, "admin")
    (entry,) = json.loads(path.read_text())["tokens"]
    for ends, works in ((time.time() + 3600, True), (time.time() - 1, False)):
        earlier = {**entry, "sha256": old.secret_hash.hex(), "expire_time": ends}
        path.write_text(json.dumps({"tokens": [entry, earlier]}))
        file = TokenFile(path)
        await file.authenticate(new.text, PEER)
        if works:
            await file.authenticate(old.text, PEER)
        else:
            with pytest.raises(NotAuthenticated):
                await file.authenticate(old.text, PEER)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"tokens": [{"id": "x"}]}', '{"tokens": [{"role": "king"}]}'])
def test_a_file_that_is_none_says_what_to_do(tmp_path: Path, content: str) -> None:
    path = tmp_path / "file"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="write it anew"):
        TokenFile(path)


def test_a_file_that_others_may_read_or_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="chmod 600"):
        TokenFile(_write(tmp_path / "file", mint_token("service"), mode=0o640))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        TokenFile(tmp_path / "nothing")
