"""One served socket: takes the connections of programs and relays each to the owner."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial

import structlog

from portway.box.sockets.connection import Connection
from portway.box.sockets.outbox import Outbox
from portway.box.sockets.places import Place
from portway.box.sockets.types import (
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
from portway.box.tasks import TaskOwner
from portway.rpc.errors import PortwayError

# A machine without a free descriptor has one again soon.
_PAUSE_SECONDS = 0.2
Places = Callable[[], Awaitable[Place]]


class SocketRelay:
    """`run` relays until the owner is gone or `end` is called. `places` gives a connection its place, in turn."""

    def __init__(self, offer: SocketOffer, places: Places) -> None:
        self.offer = offer
        self.place = SocketPlace("", 0)
        self._places = places
        self._create_time = time.time()
        self._connections: dict[int, Connection] = {}
        self._total = 0
        self._received = 0
        self._sent = 0
        self._over = asyncio.Event()
        self.ended: PortwayError | None = None
        self.gone = asyncio.Event()
        """Nothing of it is left inside."""

    def end(self, why: PortwayError) -> None:
        """Resets its connections and has its owner told why."""
        self.ended = self.ended or why
        self._over.set()

    def describe(self) -> ServedSocket:
        return ServedSocket(
            ref=self.offer.ref,
            name=self.offer.name,
            place=self.place,
            generation=self.offer.generation,
            connection_count=len(self._connections),
            total_connection_count=self._total,
            received_bytes=self._received,
            sent_bytes=self._sent,
            create_time=self._create_time,
        )

    async def run(
        self,
        listening: Mapping[SocketEnd, socket.socket],
        frames: AsyncIterator[FromOwner],
        write: Callable[[ToOwner], Awaitable[None]],
        closing: Awaitable[PortwayError],
    ) -> None:
        """Raises what `end` was called with or `closing` gives, and what reading and writing raise."""
        outbox = Outbox(write)
        tasks = TaskOwner("connections of a socket")
        try:
            work = [tasks.start(outbox.pump()), tasks.start(self._read(frames))]
            work += [tasks.start(self._accept(end, one, outbox, tasks)) for end, one in listening.items()]
            tasks.start(self._end_with(closing))
            await asyncio.wait([*work, tasks.start(self._over.wait())], return_when=asyncio.FIRST_COMPLETED)
            if self.ended is not None:
                raise self.ended
            for task in work:
                if task.done():
                    task.result()
        finally:
            await tasks.close()

    async def _end_with(self, closing: Awaitable[PortwayError]) -> None:
        self.end(await closing)

    async def _read(self, frames: AsyncIterator[FromOwner]) -> None:
        """What the owner says. Nothing here waits for a connection; frames for one that has ended are dropped."""
        async for frame in frames:
            connection = self._connections.get(frame.number)
            if connection is None:
                continue
            match frame:
                case Data(_, data):
                    connection.give(data)
                case HalfClosed():
                    connection.half_close()
                case Closed(_, reset):
                    connection.reset() if reset else connection.close()
                case Credit(_, size):
                    connection.credit(size)

    async def _accept(self, end: SocketEnd, listening: socket.socket, outbox: Outbox, tasks: TaskOwner) -> None:
        loop = asyncio.get_running_loop()
        while True:
            # Without a place, further connections wait inside, as behind any server that is busy.
            place = await self._places()
            try:
                peer, _address = await loop.sock_accept(listening)
            except OSError as error:
                place.release()
                structlog.get_logger().warning(
                    "a connection could not be taken", socket=self.offer.name, error=str(error)
                )
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            except BaseException:
                place.release()
                raise
            self._total += 1
            connection = Connection(self._total, peer, outbox, self.offer.credit, self._counted)
            self._connections[connection.number] = connection
            serving = tasks.start(self._serve(connection, end, outbox))
            serving.add_done_callback(partial(_let_go, place, peer))

    async def _serve(self, connection: Connection, end: SocketEnd, outbox: Outbox) -> None:
        try:
            await outbox.put(lambda: Opened(connection.number, end))
            await connection.run()
        finally:
            del self._connections[connection.number]

    def _counted(self, received: int, sent: int) -> None:
        self._received += received
        self._sent += sent


def _let_go(place: Place, peer: socket.socket, _task: object) -> None:
    """Also where its task was cancelled before it began."""
    peer.close()
    place.release()
