"""The gateway of adapters: who may connect, which connection counts, and what waits for it."""

import asyncio

import structlog

from portway.rpc.errors import NotFound, Reason, Unavailable, WrongState
from portway.rpc.identity import Caller
from portway.server.adapters.connection import Connection, Connections
from portway.server.adapters.frames import PROTOCOL_VERSION, Hello, Welcome
from portway.server.adapters.live import Feeds, Runs
from portway.server.adapters.session import Acceptor, Session, Stream
from portway.server.adapters.store import Adapters, connect_adapter, leave_adapter
from portway.server.deliveries.outbox import Outbox
from portway.server.deliveries.settle import Result
from portway.server.deliveries.typing_signs import TypingSigns
from portway.server.storage_engine.writer import Writer


class Gateway:
    """Serves the streams of adapters."""

    def __init__(
        self,
        connections: Connections,
        adapters: Adapters,
        *,
        acceptor: Acceptor,
        outbox: Outbox,
        signs: TypingSigns,
        feeds: Feeds,
        runs: Runs,
        writer: Writer,
    ) -> None:
        self._connections = connections
        self._adapters = adapters
        self._acceptor = acceptor
        self._outbox = outbox
        self._signs = signs
        self._feeds = feeds
        self._runs = runs
        self._writer = writer
        self._log = structlog.get_logger("portway.server.adapters")

    async def serve(self, caller: Caller, hello: Hello, stream: Stream, draining: asyncio.Event) -> None:
        """One connection, from its hello to its end.

        Raises WrongState (protocol version, id in use), NotPermitted (the token of another adapter), Unavailable.
        """
        self._check(caller, hello, draining)
        introduction, workspace_id = hello.introduction, caller.workspace_id
        generation = await self._writer.run(lambda tx: connect_adapter(tx, workspace_id, introduction))
        connection = Connection(caller, hello, generation)
        try:
            before = self._connections.enter(connection)
            if before is not None:
                self._outbox.detach(before)
            self._log.info("an adapter connected", adapter=introduction.adapter_id, generation=generation)
            await self._talk(connection, stream, draining)
        finally:
            self._signs.detach(connection)
            self._outbox.detach(connection)
            if self._connections.leave(connection):
                await self._note_end(connection)

    async def _talk(self, connection: Connection, stream: Stream, draining: asyncio.Event) -> None:
        # First what became of earlier deliveries, so that none of them is sent again.
        await asyncio.gather(*(self._settle(connection, result) for result in connection.hello.recent))
        connection.outbound.put(Welcome(connection.generation, await self._adapters.cursors(*connection.key)))
        if connection.open:
            await self._outbox.attach(connection, connection.caller.workspace_id)
            self._signs.attach(connection)
        async with asyncio.TaskGroup() as tasks:
            session = Session(
                connection,
                stream,
                tasks,
                acceptor=self._acceptor,
                outbox=self._outbox,
                feeds=self._feeds,
                runs=self._runs,
                writer=self._writer,
            )
            await session.run(draining)

    def _check(self, caller: Caller, hello: Hello, draining: asyncio.Event) -> None:
        if hello.protocol_version != PROTOCOL_VERSION:
            raise WrongState(
                f"The adapter speaks version {hello.protocol_version} of the adapter contract, this host version "
                f"{PROTOCOL_VERSION}. Use an adapter of the host's release.",
                reason=Reason.NOT_SUPPORTED_HERE,
            )
        if draining.is_set():
            raise Unavailable("The host is stopping; connect again.", reason=Reason.SHUTTING_DOWN, retry_after=1.0)
        refusal = self._connections.refusal(caller, hello)
        if refusal is not None:
            raise refusal

    async def _settle(self, connection: Connection, result: Result) -> None:
        try:
            await self._outbox.settle(connection, connection.caller.workspace_id, result)
        except NotFound:
            self._log.warning("a result names no delivery of this adapter", delivery_id=result.delivery_id)

    async def _note_end(self, connection: Connection) -> None:
        workspace_id, adapter_id = connection.key
        self._log.info("an adapter left", adapter=adapter_id, generation=connection.generation)
        # Not awaited: the stream may be going away under a cancellation, and nothing depends on it.
        noted = self._writer.submit(lambda tx: leave_adapter(tx, workspace_id, adapter_id, connection.generation))
        noted.add_done_callback(_read_error)


def _read_error(done: "asyncio.Future[None]") -> None:
    if not done.cancelled():
        done.exception()
