"""BindingService on the wire."""

from typing import Never

from portway.rpc.call import Call
from portway.rpc.cursor import CursorCodec
from portway.server.bindings.directory import BindingDirectory
from portway.server.bindings.listing import BindingListing
from portway.server.bindings.manage import BindingManager
from portway.server.bindings.wire import binding_message, draft_of, explanation_message
from portway.server.events.store import EventLog
from portway.server.events.wire import event_message, facts_of
from portway.v1 import binding_pb2

DEFAULT_PAGE = 50


class BindingServicer:
    def __init__(
        self,
        manager: BindingManager,
        directory: BindingDirectory,
        listing: BindingListing,
        events: EventLog,
        cursors: CursorCodec,
    ) -> None:
        self._manager = manager
        self._directory = directory
        self._listing = listing
        self._events = events
        self._cursors = cursors

    async def CreateBinding(
        self, request: binding_pb2.CreateBindingRequest, call: Call[Never, Never]
    ) -> binding_pb2.CreateBindingResponse:
        binding = await self._manager.create(call.caller, draft_of(request.binding), request.request_id)
        return binding_pb2.CreateBindingResponse(binding=binding_message(binding))

    async def GetBinding(
        self, request: binding_pb2.GetBindingRequest, call: Call[Never, Never]
    ) -> binding_pb2.GetBindingResponse:
        binding = await self._listing.get(call.caller.workspace_id, request.binding_id)
        return binding_pb2.GetBindingResponse(binding=binding_message(binding))

    async def ListBindings(
        self, request: binding_pb2.ListBindingsRequest, call: Call[Never, Never]
    ) -> binding_pb2.ListBindingsResponse:
        workspace_id = call.caller.workspace_id
        name = f"bindings\0{workspace_id}\0{request.agent_id}"
        after = self._cursors.read_page(request.page_token, name) if request.page_token else ""
        size = request.page_size or DEFAULT_PAGE
        found, place = await self._listing.page(workspace_id, request.agent_id, after, size)
        return binding_pb2.ListBindingsResponse(
            bindings=[binding_message(binding) for binding in found],
            next_page_token=self._cursors.write_page(name, place) if place else "",
        )

    async def UpdateBinding(
        self, request: binding_pb2.UpdateBindingRequest, call: Call[Never, Never]
    ) -> binding_pb2.UpdateBindingResponse:
        binding = await self._manager.update(call.caller, draft_of(request.binding))
        return binding_pb2.UpdateBindingResponse(binding=binding_message(binding))

    async def DeleteBinding(
        self, request: binding_pb2.DeleteBindingRequest, call: Call[Never, Never]
    ) -> binding_pb2.DeleteBindingResponse:
        await self._manager.delete(call.caller, request.binding_id)
        return binding_pb2.DeleteBindingResponse()

    async def ExplainBinding(
        self, request: binding_pb2.ExplainBindingRequest, call: Call[Never, Never]
    ) -> binding_pb2.ExplainBindingResponse:
        event = await self._events.event(call.caller.workspace_id, request.event_id)
        resolution = await self._directory.resolve(facts_of(event_message(event), event.workspace_id))
        return binding_pb2.ExplainBindingResponse(explanation=explanation_message(resolution))
