"""Who comes in: the run of a token, how many at once, and how much they may send."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from portway.rpc.errors import InvalidInput, NotAuthenticated, PayloadTooLarge, Reason
from portway.rpc.identity import Caller
from portway.rpc.tokens import ParsedToken, parse_token
from portway.server.gateway.config import GatewayLimits
from portway.server.gateway.entering import Receive, Room, TooLong, read_body
from portway.server.runner_calls.scope import RunScope

RUN_KIND = "run"
# In the state of a connection that belongs to one run: its id.
ONLY_RUN = "only_run"


class RunTokens(Protocol):
    """Tokens of runs: they live and die with an attempt."""

    async def authenticate(self, token: ParsedToken) -> Caller:
        """Raises NotAuthenticated, WrongState (the run has ended), Stale (another attempt has taken over)."""

    def scope(self, caller: Caller) -> RunScope:
        """Raises WrongState where it has ended meanwhile."""


class Door:
    """One for all endpoints."""

    def __init__(self, tokens: RunTokens, limits: GatewayLimits) -> None:
        self._tokens = tokens
        self._limits = limits
        self._room = Room("model gateway", limits.requests_per_run, limits.requests)

    async def run_of(self, headers: Mapping[str, str], only: str = "") -> tuple[RunScope, str]:
        """The run whose token it is, and the token's id. `only`: the run that this way in belongs to.

        Raises NotAuthenticated, WrongState, Stale.
        """
        text = headers.get("x-api-key", "")
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and given.strip():
            text = given.strip()
        if not text:
            raise NotAuthenticated(
                "the model gateway is opened by a run's token, as `Authorization: Bearer` or `x-api-key`",
                reason=Reason.TOKEN_MISSING,
            )
        parsed = parse_token(text)
        if parsed.kind != RUN_KIND:
            raise NotAuthenticated("the model gateway takes tokens of runs alone; this is another one")
        caller = await self._tokens.authenticate(parsed)
        run = self._tokens.scope(caller)
        if only and run.run_id != only:
            raise NotAuthenticated("this socket belongs to another run; use the one that your run offers")
        return run, caller.token_id

    def inside(self, run: RunScope) -> AbstractContextManager[None]:
        """Raises LimitExceeded where too many are inside."""
        return self._room.place(run.run_id)

    async def body(self, receive: Receive, headers: Mapping[str, str]) -> tuple[Mapping[str, Any], bytes]:
        """The JSON object and its bytes. Raises InvalidInput, PayloadTooLarge; Gone."""
        limits = self._limits
        try:
            raw = await read_body(receive, headers, limits.body_bytes, limits.read_seconds)
        except TooLong:
            raise PayloadTooLarge(f"the body has more than {limits.body_bytes} bytes") from None
        except TimeoutError:
            raise InvalidInput(f"the body did not come within {limits.read_seconds:g} s") from None
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError):
            raise InvalidInput("the body is no JSON", reason=Reason.UNPARSABLE_MESSAGE) from None
        if not isinstance(found, dict):
            raise InvalidInput("the body is no JSON object", reason=Reason.UNPARSABLE_MESSAGE)
        return found, raw
