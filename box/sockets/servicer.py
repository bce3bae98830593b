"""SocketService on the wire."""

from collections.abc import AsyncIterator
from typing import Never

from portway.box.paging import Pager
from portway.box.sessions.servicer import session_ref
from portway.box.sockets.connection import CREDIT_BYTES
from portway.box.sockets.directory import SocketDirectory
from portway.box.sockets.types import FromOwner, SocketPlace, ToOwner
from portway.box.sockets.wire import frame_from, frame_to, listening_to, offer_from, socket_to
from portway.rpc.call import Call
from portway.rpc.errors import InvalidInput, Reason
from portway.v1 import socket_pb2 as pb

DEFAULT_PAGE = 50
ServeCall = Call[pb.ServeSocketRequest, pb.ServeSocketResponse]


class SocketServicer:
    """Translates; the rules are the directory's."""

    def __init__(self, sockets: SocketDirectory, pages: Pager) -> None:
        self._sockets = sockets
        self._pages = pages

    async def ServeSocket(self, call: ServeCall) -> None:
        first = await call.read()
        if first is None or not first.HasField("listen"):
            raise InvalidInput("the first frame is `listen`", reason=Reason.UNEXPECTED_FRAME)
        listen = first.listen
        ref = session_ref(call.caller, listen.workspace_id, listen.session_id)

        async def tell_place(place: SocketPlace) -> None:
            await call.write(listening_to(place, CREDIT_BYTES, self._sockets.limits.connections_per_socket))

        async def frames() -> AsyncIterator[FromOwner]:
            while (frame := await call.read()) is not None:
                yield frame_from(frame)

        async def write(frame: ToOwner) -> None:
            await call.write(frame_to(frame))

        await self._sockets.serve(offer_from(listen, ref), tell_place, frames(), write, call.draining)

    async def ListSockets(self, request: pb.ListSocketsRequest, call: Call[Never, Never]) -> pb.ListSocketsResponse:
        ref = session_ref(call.caller, request.workspace_id, request.session_id)
        page, token = self._pages.page(
            self._sockets.list(ref),
            lambda socket: (socket.name,),
            f"sockets/{ref}",
            request.page_token,
            request.page_size or DEFAULT_PAGE,
        )
        return pb.ListSocketsResponse(sockets=[socket_to(socket) for socket in page], next_page_token=token)
