"""ToolService on the wire: which tools there are and why one cannot be used, and MCP servers."""

from __future__ import annotations

from typing import Never

from portway.rpc.call import Call
from portway.rpc.cursor import CursorCodec
from portway.server.tools.mcp.fleet import McpFleet
from portway.server.tools.mcp.manage import McpManager
from portway.server.tools.mcp.store import McpServers
from portway.server.tools.mcp.types import McpServer
from portway.server.tools.mcp.wire import draft_of, server_message
from portway.server.tools.registry import ToolRegistry
from portway.server.tools.wire import tool_to_wire
from portway.v1 import tool_pb2

DEFAULT_PAGE = 50


class ToolServicer:
    """Native and plugin tools are those of every workspace, MCP servers those of one."""

    def __init__(
        self,
        registry: ToolRegistry,
        cursors: CursorCodec,
        servers: McpServers,
        manager: McpManager,
        fleet: McpFleet,
    ) -> None:
        self._registry = registry
        self._cursors = cursors
        self._servers = servers
        self._manager = manager
        self._fleet = fleet

    async def GetTool(self, request: tool_pb2.GetToolRequest, call: Call[Never, Never]) -> tool_pb2.GetToolResponse:
        return tool_pb2.GetToolResponse(tool=tool_to_wire(self._registry.get(request.name, call.caller.workspace_id)))

    async def ListTools(
        self, request: tool_pb2.ListToolsRequest, call: Call[Never, Never]
    ) -> tool_pb2.ListToolsResponse:
        listing = f"tools\0{call.caller.workspace_id}\0{request.kind}"
        after = self._cursors.read_page(request.page_token, listing) if request.page_token else ""
        found = [
            tool_to_wire(tool) for tool in self._registry.tools(call.caller.workspace_id) if tool.spec.name > after
        ]
        rest = [tool for tool in found if request.kind in (tool_pb2.TOOL_KIND_UNSPECIFIED, tool.kind)]
        page = rest[: request.page_size or DEFAULT_PAGE]
        token = self._cursors.write_page(listing, page[-1].name) if len(page) < len(rest) else ""
        return tool_pb2.ListToolsResponse(tools=page, next_page_token=token)

    async def CreateMcpServer(
        self, request: tool_pb2.CreateMcpServerRequest, call: Call[Never, Never]
    ) -> tool_pb2.CreateMcpServerResponse:
        server = await self._manager.create(call.caller, draft_of(request.mcp_server), request.request_id)
        return tool_pb2.CreateMcpServerResponse(mcp_server=self._message(server))

    async def GetMcpServer(
        self, request: tool_pb2.GetMcpServerRequest, call: Call[Never, Never]
    ) -> tool_pb2.GetMcpServerResponse:
        server = await self._servers.server(call.caller.workspace_id, request.server_id)
        return tool_pb2.GetMcpServerResponse(mcp_server=self._message(server))

    async def ListMcpServers(
        self, request: tool_pb2.ListMcpServersRequest, call: Call[Never, Never]
    ) -> tool_pb2.ListMcpServersResponse:
        listing = f"mcp_servers\0{call.caller.workspace_id}"
        after = self._cursors.read_page(request.page_token, listing) if request.page_token else ""
        size = request.page_size or DEFAULT_PAGE
        found = await self._servers.page(call.caller.workspace_id, after, size + 1)
        token = self._cursors.write_page(listing, found[size - 1].server_id) if len(found) > size else ""
        servers = [self._message(one) for one in found[:size]]
        return tool_pb2.ListMcpServersResponse(mcp_servers=servers, next_page_token=token)

    async def UpdateMcpServer(
        self, request: tool_pb2.UpdateMcpServerRequest, call: Call[Never, Never]
    ) -> tool_pb2.UpdateMcpServerResponse:
        server = await self._manager.update(call.caller, draft_of(request.mcp_server))
        return tool_pb2.UpdateMcpServerResponse(mcp_server=self._message(server))

    async def DeleteMcpServer(
        self, request: tool_pb2.DeleteMcpServerRequest, call: Call[Never, Never]
    ) -> tool_pb2.DeleteMcpServerResponse:
        await self._manager.delete(call.caller, request.server_id)
        return tool_pb2.DeleteMcpServerResponse()

    async def RefreshMcpServer(
        self, request: tool_pb2.RefreshMcpServerRequest, call: Call[Never, Never]
    ) -> tool_pb2.RefreshMcpServerResponse:
        server = await self._servers.server(call.caller.workspace_id, request.server_id)
        status = await self._fleet.refresh(server)
        offered = self._registry.tools(call.caller.workspace_id)
        tools = [tool_to_wire(tool) for tool in offered if tool.source_id == server.source_id]
        return tool_pb2.RefreshMcpServerResponse(mcp_server=server_message(server, status), tools=tools)

    def _message(self, server: McpServer) -> tool_pb2.McpServer:
        return server_message(server, self._fleet.status(server))
