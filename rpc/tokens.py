"""Bearer tokens `pw_<kind>_<id>_<secret>`: made here, kept only as a hash, looked up by id."""

import hashlib
import hmac
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from portway.rpc.errors import NotAuthenticated
from portway.rpc.identity import Caller, Peer
from portway.rpc.ids import new_id

SECRET_BYTES = 32
_FORM = re.compile(r"pw_(?P<kind>[a-z]{1,16})_(?P<id>[0-9a-f]{32})_(?P<secret>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class ParsedToken:
    """A token taken apart. `token_id` is what logs and stores may hold; `secret_hash` is what a store compares."""

    kind: str
    token_id: str
    secret_hash: bytes


@dataclass(frozen=True, slots=True)
class MintedToken:
    """A new token. `text` is shown once and stored nowhere."""

    text: str
    token_id: str
    secret_hash: bytes

    def __repr__(self) -> str:
        return f"MintedToken({self.token_id})"


def mint_token(kind: str, token_id: str = "") -> MintedToken:
    """A new token of a kind such as `admin`, `run`, `svc` (lower-case letters); or a new secret for `token_id`."""
    token_id = token_id or new_id("tok")
    secret = os.urandom(SECRET_BYTES).hex()
    text = f"pw_{kind}_{token_id.removeprefix('tok_')}_{secret}"
    if _FORM.fullmatch(text) is None:
        raise ValueError(f"a token kind is 1 to 16 lower-case letters, not {kind!r}")
    return MintedToken(text, token_id, hash_secret(secret))


def hash_secret(secret: str) -> bytes:
    # A plain hash is enough: the secret is random and long, so there is nothing to guess.
    return hashlib.sha256(secret.encode()).digest()


def parse_token(text: str) -> ParsedToken:
    """Takes a token apart. Raises `NotAuthenticated` where it has not the form of one."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise NotAuthenticated("the token is not valid; ask for a new one with `portway tokens create`")
    return ParsedToken(match["kind"], f"tok_{match['id']}", hash_secret(match["secret"]))


def same_secret(one: bytes, other: bytes) -> bool:
    return hmac.compare_digest(one, other)


class FixedTokens:
    """An authenticator over tokens known at start, for servers with service credentials only (box, runtime)."""

    def __init__(self, known: Iterable[tuple[str, Caller]]) -> None:
        """Each token's text with the caller it stands for."""
        # By the hash of the whole text: it says nothing about how much of a wrong token was right.
        self._callers = {hash_secret(text): caller for text, caller in known}

    async def authenticate(self, token: str, peer: Peer) -> Caller:
        caller = self._callers.get(hash_secret(token))
        if caller is None:
            raise NotAuthenticated("the token is not valid; ask for a new one with `portway tokens create`")
        return caller
