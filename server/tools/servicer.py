"""ToolService on the wire: which tools there are and why one cannot be used, and MCP servers."""

from __future__ import annotations

from typing import Never

from portway.rpc.call import Call
from portway.rpc.cursor import CursorCodec
from portway.server.tools.registry import ToolRegistry
from portway.server.tools.wire import tool_to_wire
from portway.v1 import tool_pb2

DEFAULT_PAGE = 50


class ToolServicer:
    """Native and plugin tools are those of every workspace, MCP servers those of one."""

    def __init__(self, registry: ToolRegistry, cursors: CursorCodec) -> None:
        self._registry = registry
        self._cursors = cursors

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
