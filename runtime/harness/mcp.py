"""The MCP servers that a program is given: those of the run's own bridge, while it lasts."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from portway.runtime.harness.places import Place
from portway.runtime.sdk import HostApi, RunContext


@dataclass(frozen=True, slots=True)
class McpServer:
    """A server as a program reaches it: over HTTP at `url`, or by a `command` that speaks over its standard streams."""

    name: str
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@asynccontextmanager
async def bridge_servers(ctx: RunContext, host: HostApi, place: Place) -> AsyncIterator[Sequence[McpServer]]:
    """The servers of this run, for the time of the block. A run without a bridge has none."""
    yield ()


def mcp_document(servers: Sequence[McpServer]) -> bytes:
    """The file that `claude --mcp-config` and others read. With no server in it, strict programs use none at all."""
    return json.dumps({"mcpServers": {one.name: _entry(one) for one in servers}}, indent=2).encode()


def _entry(server: McpServer) -> dict[str, object]:
    if server.url:
        return {"type": "http", "url": server.url, "headers": dict(server.headers)}
    program, *arguments = server.command
    return {"type": "stdio", "command": program, "args": arguments, "env": dict(server.environment)}
