"""Who comes in: the run of a token, how many at once, and how much they may send."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, Protocol

from portway.rpc.errors import InvalidInput, LimitExceeded, NotAuthenticated, PayloadTooLarge, Reason
from portway.rpc.identity import Caller
from portway.rpc.tokens import ParsedToken, parse_token
from portway.server.gateway.config import GatewayLimits
from portway.server.runner_calls.scope import RunScope

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
RUN_KIND = "run"
# In the state of a connection that belongs to one run: its id.
ONLY_RUN = "only_run"


class RunTokens(Protocol):
    """Tokens of runs: they live and die with an attempt."""

    async def authenticate(self, token: ParsedToken) -> Caller:
        """Raises NotAuthenticated, WrongState (the run has ended), Stale (another attempt has taken over)."""

    def scope(self, caller: Caller) -> RunScope:
        """Raises WrongState where it has ended meanwhile."""


class Gone(Exception):
    """The program has closed its connection."""


class Door:
    """One for all endpoints."""

    def __init__(self, tokens: RunTokens, limits: GatewayLimits) -> None:
        self._tokens = tokens
        self._limits = limits
        self._inside: Counter[str] = Counter()

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

    @contextmanager
    def inside(self, run: RunScope) -> Iterator[None]:
        """Raises LimitExceeded where too many are inside."""
        limits = self._limits
        if self._inside[run.run_id] >= limits.requests_per_run or self._inside.total() >= limits.requests:
            raise LimitExceeded(
                f"{self._inside[run.run_id]} requests of this run are under way at the model gateway, "
                f"{self._inside.total()} in all; wait for one to end",
                reason=Reason.OVERLOADED,
                retry_after=1.0,
            )
        self._inside[run.run_id] += 1
        try:
            yield
        finally:
            self._inside[run.run_id] -= 1
            if not self._inside[run.run_id]:
                del self._inside[run.run_id]

    async def body(self, receive: Receive, headers: Mapping[str, str]) -> tuple[Mapping[str, Any], bytes]:
        """The JSON object and its bytes. Raises InvalidInput, PayloadTooLarge; Gone."""
        most = self._limits.body_bytes
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > most:
            raise _too_large(most)
        raw = bytearray()
        more = True
        try:
            async with asyncio.timeout(self._limits.read_seconds):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Gone
                    raw += message.get("body", b"")
                    if len(raw) > most:
                        raise _too_large(most)
                    more = message.get("more_body", False)
        except TimeoutError:
            raise InvalidInput(f"the body did not come within {self._limits.read_seconds:g} s") from None
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError):
            raise InvalidInput("the body is no JSON", reason=Reason.UNPARSABLE_MESSAGE) from None
        if not isinstance(found, dict):
            raise InvalidInput("the body is no JSON object", reason=Reason.UNPARSABLE_MESSAGE)
        return found, bytes(raw)


def _too_large(most: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body has more than {most} bytes")
