"""The tools of one MCP server, as the host offers them."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from portway.rpc.errors import Reason, WrongState
from portway.server.effects.types import Idempotency
from portway.server.tools.mcp.peer import Listing, Peer, RemoteTool
from portway.server.tools.mcp.types import McpServer, McpSpec
from portway.server.tools.schema import Schema, SchemaProblem
from portway.server.tools.types import Availability, ToolCall, ToolEvent, ToolResult, ToolScope, ToolSpec, ToolType

MAX_DESCRIPTION = 16_000
MAX_PROBLEMS = 50
_NAME = re.compile(r"[A-Za-z0-9_./-]{1,128}\Z")


class McpTools:
    """The source of one server's tools. `peer` gives the connection, or raises `WrongState` with the reason."""

    def __init__(
        self,
        server: McpServer,
        specs: Sequence[ToolSpec],
        peer: Callable[[], Peer],
        state: Callable[[], Availability],
    ) -> None:
        self.source_id = server.source_id
        self._server = server
        self._specs = tuple(specs)
        self._peer = peer
        self._state = state

    def specs(self) -> tuple[ToolSpec, ...]:
        return self._specs

    def availability(self) -> Availability:
        return self._state()

    async def call(self, scope: ToolScope, call: ToolCall) -> AsyncGenerator[ToolEvent, None]:
        name = call.name.removeprefix(f"{self.source_id}/")
        longest = self._server.spec.call_seconds
        seconds = longest if call.timeout_seconds is None else min(longest, call.timeout_seconds)
        async with aclosing(self._peer().call(name, call.arguments, seconds)) as events:
            async for event in events:
                yield event

    async def reconcile(self, scope: ToolScope, call: ToolCall) -> ToolResult:
        raise WrongState(
            f"whether the call of {call.name!r} happened cannot be found out: there is no way to ask its server",
            reason=Reason.EFFECT_UNKNOWN,
        )


def offered(server: McpServer, listing: Listing) -> tuple[list[ToolSpec], list[str]]:
    """The tools that agents may have, and what was left out and why."""
    found: dict[str, ToolSpec] = {}
    problems = [listing.cut_off] if listing.cut_off else []
    for tool in listing.tools:
        if not server.spec.takes(tool.name):
            continue
        why = _unusable(tool)
        if not why and tool.name in found:
            why = "the server has two tools of this name; the first one counts"
        if why:
            problems.append(f"{tool.name[:128]!r}: {why}")
            continue
        found[tool.name] = ToolSpec(
            name=f"{server.source_id}/{tool.name}",
            type=ToolType.MCP,
            description=tool.description[:MAX_DESCRIPTION],
            input_schema=tool.input_schema,
            idempotency=_class(tool, server.spec),
        )
    if len(problems) > MAX_PROBLEMS:
        problems = [*problems[:MAX_PROBLEMS], f"and {len(problems) - MAX_PROBLEMS} more"]
    return list(found.values()), problems


def _unusable(tool: RemoteTool) -> str:
    if not _NAME.match(tool.name):
        return "a name has 1 to 128 letters, digits and _ . / -"
    try:
        Schema(tool.input_schema)
    except SchemaProblem as error:
        return error.message
    return ""


def _class(tool: RemoteTool, spec: McpSpec) -> Idempotency:
    """What a server says of itself counts only where the operator trusts it."""
    if spec.trust_annotations and tool.read_only:
        return Idempotency.READ_ONLY
    if spec.trust_annotations and tool.idempotent:
        return Idempotency.IDEMPOTENT
    return Idempotency.NOT_IDEMPOTENT
