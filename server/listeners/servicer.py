"""ListenerService."""

from typing import Never

from portway.rpc.call import Call
from portway.rpc.cursor import CursorCodec
from portway.server.listeners.manage import ListenerManager
from portway.server.listeners.offered import OfferedListeners
from portway.server.listeners.store import Listeners
from portway.server.listeners.types import Beginning, Listener
from portway.v1 import listener_pb2 as pb

DEFAULT_PAGE = 50
_BEGINNINGS = {
    pb.LISTENER_START_UNSPECIFIED: Beginning.RESUME,
    pb.LISTENER_START_RESUME: Beginning.RESUME,
    pb.LISTENER_START_NOW: Beginning.NOW,
    pb.LISTENER_START_OLDEST: Beginning.OLDEST,
}
_Call = Call[Never, Never]


class ListenerServicer:
    def __init__(
        self, manager: ListenerManager, listeners: Listeners, offered: OfferedListeners, cursors: CursorCodec
    ) -> None:
        self._manager = manager
        self._listeners = listeners
        self._offered = offered
        self._cursors = cursors

    async def ListListeners(self, request: pb.ListListenersRequest, call: _Call) -> pb.ListListenersResponse:
        workspace_id, size = call.caller.workspace_id, request.page_size or DEFAULT_PAGE
        listing = f"listeners\0{workspace_id}"
        after = self._cursors.read_page(request.page_token, listing) if request.page_token else ""
        kept, latest = await self._listeners.of_workspace(workspace_id)
        known = {one.listener_id: one for one in kept if one.enabled or one.listener_id in self._offered.manifests}
        ids = sorted(one for one in {*known, *self._offered.manifests} if one > after)
        page = ids[:size]
        return pb.ListListenersResponse(
            listeners=[self._message(one, known.get(one), latest) for one in page],
            next_page_token=self._cursors.write_page(listing, page[-1]) if len(ids) > size else "",
        )

    async def EnableListener(self, request: pb.EnableListenerRequest, call: _Call) -> pb.EnableListenerResponse:
        listener = await self._manager.enable(call.caller, request.listener_id, _BEGINNINGS[request.start])
        return pb.EnableListenerResponse(listener=await self._now(listener))

    async def DisableListener(self, request: pb.DisableListenerRequest, call: _Call) -> pb.DisableListenerResponse:
        listener = await self._manager.disable(call.caller, request.listener_id)
        return pb.DisableListenerResponse(listener=await self._now(listener))

    async def _now(self, listener: Listener) -> pb.Listener:
        _, latest = await self._listeners.of_workspace(listener.workspace_id)
        return self._message(listener.listener_id, listener, latest)

    def _message(self, listener_id: str, listener: Listener | None, latest: int) -> pb.Listener:
        message = pb.Listener(listener_id=listener_id)
        manifest = self._offered.manifests.get(listener_id)
        if manifest is not None:
            message.manifest.CopyFrom(manifest)
        if listener is not None:
            message.enabled = listener.enabled
            message.sequence = listener.sequence
            message.lag = max(0, latest - listener.sequence) if listener.enabled else 0
            message.delivered_count = listener.delivered_count
            message.missed_count = listener.missed_count
            message.trouble = listener.trouble
            message.update_time.FromMicroseconds(listener.update_time)
        return message
