"""Sockets and their frames between the contract and this folder's types."""

from portway.box.sessions.types import SessionRef
from portway.box.sessions.wire import timestamp
from portway.box.sockets.types import (
    DEFAULT_CREDIT,
    Closed,
    Credit,
    Data,
    FromOwner,
    HalfClosed,
    Opened,
    ServedSocket,
    SocketEnd,
    SocketOffer,
    SocketPlace,
    ToOwner,
)
from portway.rpc.errors import InvalidInput, Reason
from portway.v1 import socket_pb2 as pb

MAX_DATA = 256 * 1024
_MAX_REASON = 500
_END_TO = {SocketEnd.PATH: pb.SOCKET_END_PATH, SocketEnd.PORT: pb.SOCKET_END_PORT}


def offer_from(listen: pb.SocketListen, ref: SessionRef) -> SocketOffer:
    return SocketOffer(
        ref=ref,
        name=listen.name,
        port=listen.port if listen.HasField("port") else None,
        generation=listen.generation,
        credit=listen.connection_credit or DEFAULT_CREDIT,
    )


def listening_to(place: SocketPlace, credit: int, most_connections: int) -> pb.ServeSocketResponse:
    listening = pb.SocketListening(
        path=place.path, port=place.port, connection_credit=credit, most_connections=most_connections
    )
    return pb.ServeSocketResponse(listening=listening)


def frame_from(frame: pb.ServeSocketRequest) -> FromOwner:
    """Raises `InvalidInput` for one that may not come after the first."""
    number = frame.connection_id
    match frame.WhichOneof("kind"):
        case "data":
            if len(frame.data) > MAX_DATA:
                raise InvalidInput.field("data", f"has more than {MAX_DATA} bytes in one frame")
            return Data(number, frame.data)
        case "half_closed":
            return HalfClosed(number)
        case "closed":
            return Closed(number, frame.closed.reset)
        case "credit":
            if frame.credit <= 0:
                raise InvalidInput.field("credit", "must be more than 0")
            return Credit(number, frame.credit)
        case other:
            raise InvalidInput(
                f"a frame with {other or 'nothing'} may not come here: the first listens, others are of connections",
                reason=Reason.UNEXPECTED_FRAME,
            )


def frame_to(frame: ToOwner) -> pb.ServeSocketResponse:
    match frame:
        case Opened(number, end):
            return pb.ServeSocketResponse(connection_id=number, opened=pb.SocketOpened(end=_END_TO[end]))
        case Data(number, data):
            return pb.ServeSocketResponse(connection_id=number, data=data)
        case HalfClosed(number):
            return pb.ServeSocketResponse(connection_id=number, half_closed=pb.SocketHalfClosed())
        case Closed(number, reset, reason):
            closed = pb.SocketClosed(reset=reset, reason=reason[:_MAX_REASON])
            return pb.ServeSocketResponse(connection_id=number, closed=closed)
        case Credit(number, size):
            return pb.ServeSocketResponse(connection_id=number, credit=size)


def socket_to(served: ServedSocket) -> pb.Socket:
    return pb.Socket(
        session_id=served.ref.session_id,
        workspace_id=served.ref.workspace_id,
        name=served.name,
        path=served.place.path,
        port=served.place.port,
        generation=served.generation,
        connection_count=served.connection_count,
        total_connection_count=served.total_connection_count,
        received_bytes=served.received_bytes,
        sent_bytes=served.sent_bytes,
        create_time=timestamp(served.create_time),
    )
