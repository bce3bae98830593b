"""Administrators' tokens for the other servers of an installation: hashes in a file that they read when it changes."""

import asyncio
import json
from pathlib import Path

import structlog

from portway.rpc.errors import NotAuthenticated, WrongState
from portway.rpc.identity import Role
from portway.server.storage_engine.clock import SECOND, now
from portway.server.tokens.authenticator import TokenAuthenticator
from portway.server.tokens.store import Tokens
from portway.server.tokens.token_file import write_token
from portway.server.tokens.types import Token

# Those that were made last; more than that nobody has, and the readers hold them all in memory.
AT_MOST = 1_000
_EVERY_WORKSPACE = "*"
_AGAIN_SECONDS = 1.0


class AdminsFile:
    """Kept up to date: a token that is revoked is refused by the others as soon as the file is written."""

    def __init__(self, path: Path, tokens: Tokens, authenticator: TokenAuthenticator) -> None:
        self._path = path
        self._tokens = tokens
        self._authenticator = authenticator
        self._log = structlog.get_logger("portway.server.tokens")

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            self._authenticator.changed.clear()
            try:
                await self.write()
            except OSError as error:
                self._log.error("the file of administrators cannot be written", file=str(self._path), error=str(error))
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            await self._authenticator.changed.wait()

    async def write(self) -> None:
        """What holds now. Raises OSError."""
        entries: list[dict[str, object]] = []
        for token in await self._tokens.administrators(AT_MOST):
            if await self._is_one(token):
                entries += _entries(token)
        await asyncio.to_thread(write_token, self._path, json.dumps({"tokens": entries}))

    async def _is_one(self, token: Token) -> bool:
        try:
            return await self._authenticator.role_now(token) is Role.ADMIN
        except (NotAuthenticated, WrongState):
            return False


def _entries(token: Token) -> list[dict[str, object]]:
    current = {
        "id": token.token_id,
        "sha256": token.secret_hash.hex(),
        "role": "admin",
        "workspace_id": _EVERY_WORKSPACE,
        "expire_time": token.expire_time / SECOND,
    }
    if not token.previous_hash or token.previous_expire_time <= now():
        return [current]
    ends = min(token.previous_expire_time, token.expire_time or token.previous_expire_time)
    return [current, {**current, "sha256": token.previous_hash.hex(), "expire_time": ends / SECOND}]
