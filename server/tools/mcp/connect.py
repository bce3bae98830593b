"""The one place that loads the MCP library: a host without MCP servers never pays for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from portway.clients.box import Box
from portway.rpc.errors import PortwayError, Reason, WrongState
from portway.server.agents.types import ManagedBy
from portway.server.outbound.policy import OutboundPolicy
from portway.server.tools.mcp.boxed import BoxedHome
from portway.server.tools.mcp.checks import NOT_ALLOWED
from portway.server.tools.mcp.peer import Peer
from portway.server.tools.mcp.stdio import BoxProgram, HostMark
from portway.server.tools.mcp.types import McpServer, Opened, Transport
from portway.server.tools.types import Availability


@dataclass(frozen=True, slots=True)
class Ways:
    """What connections are made of. `box` is `None` on a host without one; `mates` share a server's session."""

    policy: OutboundPolicy
    box: Box | None
    box_state: Callable[[], Availability]
    mark: HostMark
    mates: Callable[[McpServer], Sequence[McpServer]] = lambda server: (server,)
    allows: Callable[[tuple[str, ...]], bool] = lambda command: True


@asynccontextmanager
async def connected(server: McpServer, opened: Opened, ways: Ways) -> AsyncIterator[Peer]:
    """A server that has agreed on a version. Raises WrongState, Unavailable and what transports raise, in groups."""
    from portway.server.tools.mcp.library import session, transports  # noqa: PLC0415 - the named seam

    async with AsyncExitStack() as stack:
        if server.spec.transport is Transport.STDIO:
            _require_allowed(server, ways)
            program = BoxProgram(_box(ways), server, opened, ways.mark, ways.mates(server))
            streams = await stack.enter_async_context(transports.over_a_program(program))
        else:
            policy = policy_for(server, ways.policy)
            streams = await stack.enter_async_context(transports.over_http(server, opened, policy))
        yield await stack.enter_async_context(session.open_session(streams))


async def forgotten(server: McpServer, ways: Ways) -> None:
    """A server that was removed or switched off leaves nothing in the box, if the box can be reached."""
    if server.spec.transport is Transport.STDIO and ways.box is not None and ways.box_state().available:
        others = [one for one in ways.mates(server) if one.server_id != server.server_id]
        await BoxedHome(ways.box, server, others).leave()


def refusal_of(error: BaseException) -> PortwayError | None:
    """The policy's refusal that a library has wrapped."""
    from portway.server.outbound.client import refusal_in  # noqa: PLC0415 - it loads an HTTP library

    return refusal_in(error)


def policy_for(server: McpServer, policy: OutboundPolicy) -> OutboundPolicy:
    """An address in the configuration file may be private; one from the API only where the policy allows it."""
    if server.managed_by is not ManagedBy.CONFIG:
        return policy
    return policy.with_private_host(urlsplit(server.spec.url).hostname or "")


def _require_allowed(server: McpServer, ways: Ways) -> None:
    """The operator may have taken a program away since the server was made."""
    for command in (server.spec.command, server.spec.install):
        if server.managed_by is not ManagedBy.CONFIG and not ways.allows(command):
            raise WrongState(NOT_ALLOWED.format(command[0][:200]), reason=Reason.REFUSED_BY_POLICY)


def _box(ways: Ways) -> Box:
    state = ways.box_state()
    if ways.box is None or not state.available:
        raise WrongState(state.reason, reason=Reason.TOOL_UNAVAILABLE)
    return ways.box
