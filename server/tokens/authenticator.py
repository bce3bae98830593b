"""Who is behind a bearer token of the host."""

import asyncio
import time
from typing import Protocol

import structlog

from portway.rpc.errors import NotAuthenticated, NotFound, PortwayError, Reason
from portway.rpc.identity import Caller, Peer, Role
from portway.rpc.ids import has_prefix
from portway.rpc.tokens import ParsedToken, parse_token, same_secret
from portway.server.storage_engine.clock import SECOND
from portway.server.storage_engine.remembered import Remembered
from portway.server.storage_engine.writer import Writer
from portway.server.tokens.store import Tokens, mark_used, purge_tokens
from portway.server.tokens.types import Token
from portway.server.users.store import Users
from portway.server.users.types import User, role_of_token
from portway.server.workspaces.directory import WorkspaceDirectory

RUN_KIND = "run"
IN_MEMORY = 10_000
# Noted to the minute, and not more often than that.
NOTE_EVERY = 60.0
# So long their users are told what became of them.
KEPT_AFTER_END = 30 * 86_400.0


class RunTokens(Protocol):
    """Tokens of runs: they live and die with an attempt."""

    async def authenticate(self, token: ParsedToken) -> Caller:
        """Raises NotAuthenticated, WrongState (the run has ended), Stale (another attempt has taken over)."""


class TokenAuthenticator:
    """API tokens from the store, tokens of runs from whoever runs them. `run` notes when tokens were used."""

    def __init__(
        self, tokens: Tokens, run_tokens: RunTokens, writer: Writer, users: Users, workspaces: WorkspaceDirectory
    ) -> None:
        self._users = users
        self._workspaces = workspaces
        self._persons: Remembered[tuple[str, str], User] = Remembered(IN_MEMORY)
        self._tokens = tokens
        self._run_tokens = run_tokens
        self._writer = writer
        self._known: Remembered[str, Token] = Remembered(IN_MEMORY)
        self._used: dict[str, int] = {}
        # Set when tokens or their users changed, for who tells other servers.
        self.changed = asyncio.Event()
        self._log = structlog.get_logger("portway.server.tokens")

    async def authenticate(self, token: str, peer: Peer) -> Caller:
        parsed = parse_token(token)
        if parsed.kind == RUN_KIND:
            return await self._run_tokens.authenticate(parsed)
        found = await self._find(parsed.token_id)
        now = time.time_ns() // 1_000
        if found is None or not _opens(found, parsed, now):
            raise NotAuthenticated("the token is not valid; ask for a new one with `portway tokens create`")
        role = await self._standing(found, now)
        if now - max(found.last_use_time, self._used.get(found.token_id, 0)) > NOTE_EVERY * SECOND:
            self._used[found.token_id] = now
        subject = found.subject or found.user_id
        return Caller(role, found.workspace_id, found.token_id, subject, found.user_id, peer.address)

    async def check_standing(self, caller: Caller) -> None:
        """Whether one who was let in would be let in now, as the same: for streams that go on.

        Raises NotAuthenticated, WrongState (WORKSPACE_DISABLED).
        """
        if caller.role is Role.RUNNER or not has_prefix(caller.token_id, "tok"):
            # A run's own stream ends with its attempt, a certificate's with its connection.
            self._check_workspace(caller.role, caller.workspace_id)
            return
        found = await self._find(caller.token_id)
        if found is None:
            raise _revoked()
        role = await self._standing(found, time.time_ns() // 1_000)
        if role is not caller.role:
            raise NotAuthenticated("the role of the token's user has changed; call again", reason=Reason.TOKEN_REVOKED)

    async def role_now(self, token: Token) -> Role:
        """Raises NotAuthenticated, WrongState for one that opens nothing now."""
        return await self._standing(token, time.time_ns() // 1_000)

    async def _standing(self, token: Token, now: int) -> Role:
        """The role that a token has now. Raises what it is refused with."""
        if token.revoke_time:
            raise _revoked()
        if token.expire_time and token.expire_time <= now:
            raise NotAuthenticated(
                "the token has expired; ask for a new one with `portway tokens create`", reason=Reason.TOKEN_EXPIRED
            )
        role = Role[token.role.upper()]
        if token.user_id:
            role = role_of_token(role, (await self._user(token)).spec.role)
        self._check_workspace(role, token.workspace_id)
        return role

    async def _user(self, token: Token) -> User:
        key = token.workspace_id, token.user_id
        try:
            user = await self._persons.get(key, lambda: self._users.user(*key))
        except NotFound:
            raise _revoked() from None
        if user.spec.disabled:
            raise NotAuthenticated(
                "the token's user is switched off; an operator switches the user on", reason=Reason.TOKEN_REVOKED
            )
        return user

    def _check_workspace(self, role: Role, workspace_id: str) -> None:
        # An administrator can still look at it and switch it on.
        if role is not Role.ADMIN:
            self._workspaces.check_open(workspace_id)

    def forget(self, token_id: str) -> None:
        """It has changed, or is new."""
        self._known.forget(token_id)
        self.changed.set()

    def forget_all(self) -> None:
        """Users, or the tokens of many, have changed."""
        self._known.forget_all()
        self._persons.forget_all()
        self.changed.set()

    async def run(self) -> None:
        """Notes now and then when tokens were used and forgets those that ended long ago, until it is cancelled."""
        while True:
            await asyncio.sleep(NOTE_EVERY)
            await self.note_uses()
            await self._purge()

    async def note_uses(self) -> None:
        """Write down when tokens were used since the last time."""
        uses, self._used = self._used, {}
        if not uses:
            return
        try:
            await self._writer.run(lambda tx: mark_used(tx, uses))
        except PortwayError as error:
            self._log.warning("the use of tokens could not be noted", error=str(error))
        for token_id in uses:
            self._known.forget(token_id)

    async def _purge(self) -> None:
        ended_before = time.time_ns() // 1_000 - round(KEPT_AFTER_END * SECOND)
        try:
            await self._writer.run(lambda tx: purge_tokens(tx, ended_before))
        except PortwayError as error:
            self._log.warning("tokens that ended long ago could not be removed", error=str(error))

    async def _find(self, token_id: str) -> Token | None:
        try:
            return await self._known.get(token_id, lambda: self._tokens.token(token_id))
        except NotFound:
            return None


def _revoked() -> NotAuthenticated:
    return NotAuthenticated(
        "the token was revoked; ask for a new one with `portway tokens create`", reason=Reason.TOKEN_REVOKED
    )


def _opens(token: Token, parsed: ParsedToken, now: int) -> bool:
    """Both secrets are always compared, so that an answer tells nothing by its time."""
    current = same_secret(token.secret_hash, parsed.secret_hash)
    previous = same_secret(token.previous_hash, parsed.secret_hash) and token.previous_expire_time > now
    return token.kind == parsed.kind and (current or previous)
