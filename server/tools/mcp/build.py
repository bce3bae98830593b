"""MCP servers put together for a host."""

from dataclasses import dataclass

from portway.server.runtimes.box import FollowedBox
from portway.server.secrets.store import Secrets
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.keyring import Keyring
from portway.server.tools.box_link import NOT_CONFIGURED, BoxLink
from portway.server.tools.mcp.checks import McpRules
from portway.server.tools.mcp.connect import Ways
from portway.server.tools.mcp.fleet import McpFleet
from portway.server.tools.mcp.keep import McpSecrets
from portway.server.tools.mcp.manage import McpManager
from portway.server.tools.mcp.stdio import HostMark
from portway.server.tools.mcp.store import StoredMcpServers
from portway.server.tools.registry import ToolRegistry


@dataclass(frozen=True, slots=True)
class McpParts:
    """What the host holds of them."""

    servers: StoredMcpServers
    secrets: McpSecrets
    manager: McpManager
    fleet: McpFleet


@dataclass(frozen=True, slots=True)
class BoxWay:
    """The box and how it is; nothing on a host without one."""

    box: FollowedBox | None
    link: BoxLink | None


def build_mcp(
    name: str,
    database: Database,
    keyring: Keyring,
    secrets: Secrets,
    rules: McpRules,
    way: BoxWay,
    registry: ToolRegistry,
) -> McpParts:
    """Nothing is connected to until the fleet serves."""
    servers, kept = StoredMcpServers(database.reader), McpSecrets(secrets, keyring)
    state = way.link.availability if way.link is not None else lambda: NOT_CONFIGURED
    ways = Ways(rules.outbound, way.box, state, HostMark(name), lambda server: fleet.mates(server), rules.allows)
    fleet = McpFleet(servers, kept, ways, registry)
    return McpParts(servers, kept, McpManager(database.writer, kept, fleet, rules), fleet)
