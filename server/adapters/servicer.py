"""AdapterService on the wire."""

from typing import Never

from portway.rpc.call import Call
from portway.rpc.cursor import CursorCodec
from portway.server.adapters.connection import Connections
from portway.server.adapters.gateway import Gateway
from portway.server.adapters.store import Adapters
from portway.server.adapters.wire import AdapterStream, ConnectCall, adapter_message
from portway.v1 import adapter_pb2

DEFAULT_PAGE = 50


class AdapterServicer:
    def __init__(
        self,
        gateway: Gateway,
        connections: Connections,
        adapters: Adapters,
        cursors: CursorCodec,
        host_version: str,
    ) -> None:
        self._gateway = gateway
        self._connections = connections
        self._adapters = adapters
        self._cursors = cursors
        self._host_version = host_version

    async def Connect(self, call: ConnectCall) -> None:
        stream = AdapterStream(call, self._host_version)
        await self._gateway.serve(call.caller, await stream.read_hello(), stream, call.draining)

    async def ListAdapters(
        self, request: adapter_pb2.ListAdaptersRequest, call: Call[Never, Never]
    ) -> adapter_pb2.ListAdaptersResponse:
        workspace_id = call.caller.workspace_id
        listing = f"adapters\0{workspace_id}"
        after = self._cursors.read_page(request.page_token, listing) if request.page_token else ""
        size = request.page_size or DEFAULT_PAGE
        response = adapter_pb2.ListAdaptersResponse()
        records = await self._adapters.page(workspace_id, after, size)
        for record in records:
            connection = self._connections.current((workspace_id, record.adapter_id))
            held = connection.held_count if connection else 0
            response.adapters.append(adapter_message(record, connection is not None, held))
        if len(records) == size:
            response.next_page_token = self._cursors.write_page(listing, records[-1].adapter_id)
        return response
