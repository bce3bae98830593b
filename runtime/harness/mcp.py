"""The MCP servers that a program is given: those of the run's own bridge, while it lasts."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from portway.runtime.harness.places import BridgeWay, Files, Place
from portway.runtime.sdk import HostApi, RunContext

NAME = "portway"
_SHIM = Path(__file__).parent / "data" / "bridge_stdio.py"
# A session's shell is there, whatever image it has; a Python need not be.
_START = (
    'for python in python3 python; do if command -v "$python" >/dev/null 2>&1; then exec "$python" -I "$1" "$2"; fi; '
    "done; echo 'the MCP bridge over standard streams needs python3 here; use its HTTP address' >&2; exit 127"
)


@dataclass(frozen=True, slots=True)
class McpServer:
    """A server as a program reaches it: over HTTP at `url`; where that is empty, or the program cannot, by `command`.

    The command speaks over its standard streams, and reads `files`, which must be written for it."""

    name: str
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: Files = field(default_factory=dict, repr=False)


@asynccontextmanager
async def bridge_servers(ctx: RunContext, host: HostApi, place: Place) -> AsyncIterator[Sequence[McpServer]]:
    """The servers of this run, for the time of the block. A run without a bridge has none."""
    async with place.bridge() as way:
        yield (
            () if way is None or not host.bridge_token else (bridge_server(way, host.bridge_token, place.folders.run),)
        )


def bridge_server(way: BridgeWay, token: str, folder: str) -> McpServer:
    """The token is in a header or in a file of the run's own: in no argument, and in no variable."""
    shim, given = f"{folder}/bridge_stdio.py", f"{folder}/bridge.json"
    where = {"path": way.path, "url": way.url, "token": token}
    return McpServer(
        NAME,
        way.url,
        {"Authorization": f"Bearer {token}"},
        (way.python, "-I", shim, given) if way.python else ("/bin/sh", "-c", _START, "sh", shim, given),
        files={shim: _shim(), given: json.dumps(where).encode()},
    )


def mcp_document(servers: Sequence[McpServer]) -> bytes:
    """The file that `claude --mcp-config` and others read. With no server in it, strict programs use none at all."""
    return json.dumps({"mcpServers": {one.name: _entry(one) for one in servers}}, indent=2).encode()


@cache
def _shim() -> bytes:
    return _SHIM.read_bytes()


def _entry(server: McpServer) -> dict[str, object]:
    if server.url:
        return {"type": "http", "url": server.url, "headers": dict(server.headers)}
    program, *arguments = server.command
    return {"type": "stdio", "command": program, "args": arguments, "env": dict(server.environment)}
