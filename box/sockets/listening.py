"""The listening ends of a socket inside a session: made together, taken away together."""

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from portway.box.backends.interface import Sandbox
from portway.box.backends.types import SOCKETS, PortPlace
from portway.box.backends.types import SocketPlace as PathPlace
from portway.box.sockets.types import SocketEnd, SocketPlace
from portway.box.tasks import to_its_end
from portway.rpc.errors import Conflict, Unavailable


@dataclass(frozen=True, slots=True)
class Listening:
    """Where commands find it, and what is to be accepted from."""

    place: SocketPlace
    ends: Mapping[SocketEnd, socket.socket]


@asynccontextmanager
async def listening_inside(sandbox: Sandbox, name: str, port: int | None) -> AsyncIterator[Listening]:
    """Listens while the block runs. Raises `Conflict` where the port is in use inside, `Unavailable`."""
    file = f"{name}.sock"
    with ExitStack() as stack:
        ends: dict[SocketEnd, socket.socket] = {}
        if port is not None:
            ends[SocketEnd.PORT] = stack.enter_context(await _listen_on(sandbox, port))
        by_path = socket.socket(fileno=await sandbox.listen(PathPlace(file)))
        ends[SocketEnd.PATH] = stack.enter_context(by_path)
        chosen = ends[SocketEnd.PORT].getsockname()[1] if port is not None else 0
        try:
            yield Listening(SocketPlace(f"{SOCKETS}/{file}", chosen), ends)
        finally:
            # Whole, before anybody else has the name: done late it would take the next owner's away. Where the sandbox
            # is gone there is nothing to take.
            with suppress(Unavailable):
                await to_its_end(sandbox.unlisten(file))


async def _listen_on(sandbox: Sandbox, port: int) -> socket.socket:
    try:
        return socket.socket(fileno=await sandbox.listen(PortPlace(port)))
    except Conflict:
        text = f"port {port} of the session's loopback is in use by one of its commands; take another, or 0"
        raise Conflict(text) from None
