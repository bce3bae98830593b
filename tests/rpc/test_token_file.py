"""Service credentials come from a private file that holds only hashes."""

import json
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
