"""Who comes in: the run of a bridge token, by which name, how many at once, and how much they may send."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol
from urllib.parse import urlsplit

from portway.rpc.errors import NotAuthenticated, PortwayError, Reason
from portway.rpc.tokens import ParsedToken, parse_token
from portway.server.bridge.config import BridgeLimits
from portway.server.gateway.entering import Receive, Room, TooLong, read_body
from portway.server.runner_calls.scope import RunScope

BRIDGE_KIND = "bridge"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_CHALLENGE = 'Bearer realm="portway"'


class BridgeTokens(Protocol):
    """Tokens of bridges: they live and die with an attempt."""

    def of_bridge(self, token: ParsedToken) -> RunScope:
        """Raises NotAuthenticated for one that is not that of a live attempt; what `check_alive` of the run does."""


class Turned(Exception):
    """Turned away before a message was read: an HTTP status, and why."""

    def __init__(self, status: int, message: str, reason: str = "", **headers: str) -> None:
        super().__init__(message)
        self.status, self.message, self.reason = status, message, reason
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class BridgeDoor:
    """One for all runs. `names`: host names besides those of loopback by which programs know this host."""

    def __init__(self, tokens: BridgeTokens, limits: BridgeLimits, names: frozenset[str]) -> None:
        self._tokens = tokens
        self._limits = limits
        self._names = _LOOPBACK | names
        self._room = Room("bridge", limits.calls_per_run, limits.calls)

    def check_names(self, headers: Mapping[str, str]) -> None:
        """A page in a browser that was led here by a name of its own is turned away. Raises Turned."""
        if _name(f"//{headers.get('host', '')}") not in self._names:
            raise Turned(421, "the Host header names another server than this one", "REFUSED_BY_POLICY")
        origin = headers.get("origin")
        if origin is not None and _name(origin) not in self._names:
            raise Turned(403, "pages of other origins may not use the bridge", "REFUSED_BY_POLICY")

    def run_of(self, headers: Mapping[str, str], only: str = "") -> tuple[RunScope, str]:
        """The run whose bridge token it is, and the token's id. `only`: the run that this way in belongs to.

        Raises Turned (401): for a wrong token, and for one whose run has ended or goes on in another attempt.
        """
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            message = "the bridge is opened by the run's bridge token, as `Authorization: Bearer`"
            raise Turned(401, message, Reason.TOKEN_MISSING, www_authenticate=_CHALLENGE)
        try:
            parsed = parse_token(given.strip())
            if parsed.kind != BRIDGE_KIND:
                raise NotAuthenticated("the bridge takes bridge tokens of runs alone; this is another one")
            run = self._tokens.of_bridge(parsed)
            if only and run.run_id != only:
                raise NotAuthenticated("this socket belongs to another run; use the one that your run offers")
        except PortwayError as error:
            challenge = f'{_CHALLENGE}, error="invalid_token"'
            raise Turned(401, error.message, str(error.reason), www_authenticate=challenge) from None
        return run, parsed.token_id

    def inside(self, run: RunScope) -> AbstractContextManager[None]:
        """Raises LimitExceeded where too many are inside."""
        return self._room.place(run.run_id)

    async def body(self, receive: Receive, headers: Mapping[str, str]) -> bytes:
        """Raises Turned (413, 408); Gone."""
        limits = self._limits
        try:
            return await read_body(receive, headers, limits.message_bytes, limits.read_seconds)
        except TooLong:
            most = f"a message has at most {limits.message_bytes} bytes"
            raise Turned(413, most, Reason.PAYLOAD_TOO_LARGE) from None
        except TimeoutError:
            late = f"the message did not come within {limits.read_seconds:g} s"
            raise Turned(408, late, Reason.DEADLINE_EXCEEDED) from None


def _name(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""
