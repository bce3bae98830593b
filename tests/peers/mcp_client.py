"""The host's MCP client as a program: connects to the address in its last argument, lists the tools and calls each.

The conformance suite starts it, and names the scenario in the environment.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from portway.rpc.errors import PortwayError
from portway.server.agents.types import ManagedBy
from portway.server.outbound.policy import OutboundPolicy
from portway.server.tools.box_link import NOT_CONFIGURED
from portway.server.tools.mcp.connect import Ways, connected
from portway.server.tools.mcp.stdio import HostMark
from portway.server.tools.mcp.types import McpServer, McpSpec, Opened, Transport

CALL_SECONDS = 20.0


def sample(schema: dict[str, Any]) -> dict[str, Any]:
    """Arguments that a schema allows."""
    values = {"number": 2, "integer": 2, "string": "text", "boolean": True}
    return {name: values.get(one.get("type", ""), None) for name, one in schema.get("properties", {}).items()}


async def main(url: str) -> int:
    spec = McpSpec(transport=Transport.STREAMABLE_HTTP, url=url)
    server = McpServer("default", "suite", 1, ManagedBy.CONFIG, spec, 0, 0)
    ways = Ways(OutboundPolicy(), None, lambda: NOT_CONFIGURED, HostMark("conformance"))
    failed = 0
    try:
        async with connected(server, Opened(), ways) as peer:
            for tool in (await peer.list_tools()).tools:
                async for event in peer.call(tool.name, sample(dict(tool.input_schema)), CALL_SECONDS):
                    print(tool.name, event)
    except* PortwayError as errors:
        print(errors.exceptions, file=sys.stderr)
        failed = 1
    return failed


sys.exit(asyncio.run(main(sys.argv[-1])))
