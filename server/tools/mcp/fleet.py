"""All connections to MCP servers of this host: one for each that is kept and not disabled."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from portway.rpc.errors import WrongState
from portway.server.tools.mcp.boxed import session_id_of
from portway.server.tools.mcp.connect import Ways, forgotten
from portway.server.tools.mcp.connection import Connection
from portway.server.tools.mcp.keep import McpSecrets
from portway.server.tools.mcp.store import McpServers
from portway.server.tools.mcp.types import ConnectionState, ConnectionStatus, McpServer, Transport
from portway.server.tools.registry import ToolRegistry

# Another host may have changed what is kept.
LOOK_SECONDS = 30.0

Key = tuple[str, str]


class McpFleet:
    """Run `serve` beside the host. What is kept decides; who changes it says so, and every host looks by itself."""

    def __init__(self, servers: McpServers, secrets: McpSecrets, ways: Ways, registry: ToolRegistry) -> None:
        self._servers = servers
        self._secrets = secrets
        self._ways = ways
        self._registry = registry
        self._kept: dict[Key, tuple[Connection, asyncio.Task[None]]] = {}
        self._look = asyncio.Event()
        self._looked = asyncio.Event()
        self._began = asyncio.Event()

    async def serve(self) -> None:
        """Never ends by itself."""
        async with asyncio.TaskGroup() as group:
            while True:
                looked, self._looked = self._looked, asyncio.Event()
                self._look.clear()
                await self._arrange(await self._servers.every(), group)
                looked.set()
                self._began.set()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._look.wait(), LOOK_SECONDS)

    async def settled(self) -> None:
        """Every server that was kept when the host began was tried once."""
        await self._began.wait()
        for connection, _ in list(self._kept.values()):
            await connection.settled.wait()

    def changed(self, server: McpServer) -> None:
        self._look.set()

    def gone(self, workspace_id: str, server_id: str) -> None:
        self._look.set()

    def status(self, server: McpServer) -> ConnectionStatus:
        """As of now, on this host."""
        if server.spec.disabled:
            return ConnectionStatus(ConnectionState.DISABLED)
        kept = self._kept.get((server.workspace_id, server.server_id))
        if kept is None or kept[0].server.revision != server.revision:
            return ConnectionStatus(ConnectionState.CONNECTING)
        return kept[0].status

    def kept(self) -> list[tuple[McpServer, ConnectionStatus]]:
        """The connections that this host keeps, and how each is."""
        return [(connection.server, connection.status) for connection, _ in self._kept.values()]

    def mates(self, server: McpServer) -> list[McpServer]:
        """The servers that share its session, itself among them unless it goes."""
        session_id = session_id_of(server)
        kept = (connection.server for connection, _ in self._kept.values())
        return [
            one
            for one in kept
            if one.workspace_id == server.workspace_id
            and one.spec.transport is Transport.STDIO
            and session_id_of(one) == session_id
        ]

    async def refresh(self, server: McpServer) -> ConnectionStatus:
        """Connects anew and reads the tools. Raises WrongState (disabled), Unavailable."""
        if server.spec.disabled:
            raise WrongState(f"the MCP server {server.server_id!r} is disabled; enable it first")
        key = (server.workspace_id, server.server_id)
        while (kept := self._kept.get(key)) is None or kept[0].server.revision < server.revision:
            looked = self._looked
            self._look.set()
            await looked.wait()
        # Whoever stops waiting stops only waiting.
        await asyncio.shield(asyncio.ensure_future(kept[0].refresh()))
        return kept[0].status

    async def _arrange(self, servers: list[McpServer], group: asyncio.TaskGroup) -> None:
        wanted = {(one.workspace_id, one.server_id): one for one in servers if not one.spec.disabled}
        for key, (connection, task) in list(self._kept.items()):
            server = wanted.get(key)
            if server is None or server.revision != connection.server.revision:
                task.cancel()
                await asyncio.wait([task])
                del self._kept[key]
                if server is None or session_id_of(server) != session_id_of(connection.server):
                    await forgotten(connection.server, self._ways)
        for key, server in wanted.items():
            if key not in self._kept:
                connection = Connection(server, self._secrets, self._ways, self._registry)
                self._kept[key] = (connection, group.create_task(connection.serve()))
