"""What happens on one connection of an adapter, from its welcome to its end."""

import asyncio
from contextlib import suppress
from typing import Protocol, assert_never

import structlog

from portway.rpc.errors import NotFound, PortwayError
from portway.rpc.identity import Caller
from portway.rpc.outcome import outcome_of
from portway.server.adapters.connection import Connection
from portway.server.adapters.frames import (
    CursorAnswered,
    CursorSaved,
    Draining,
    EventAnswered,
    EventSubmitted,
    Incoming,
    Outgoing,
    ReplacedBy,
    ResultTold,
    WatchAsked,
)
from portway.server.adapters.live import Feeds, LiveText, Runs
from portway.server.adapters.store import save_cursor
from portway.server.deliveries.outbox import Outbox
from portway.server.deliveries.settle import Result
from portway.server.events.submit import Submit
from portway.server.events.types import Accepted
from portway.server.storage_engine.writer import Writer

# How long deliveries that the adapter holds may still get their result when the host stops.
DRAIN_SECONDS = 4.0
RETRY_AFTER_DRAIN = 1.0
_RECORD_AGAIN = 1.0


class Acceptor(Protocol):
    async def submit(self, caller: Caller, submit: Submit) -> Accepted:
        """Accept an event; the answer means that it is on disk."""


class Stream(Protocol):
    """The wire, as frames."""

    async def read(self) -> Incoming | None:
        """None at the end. Raises InvalidInput for a frame out of the contract; Cancelled when the peer is gone."""

    async def write(self, frame: Outgoing) -> None:
        """Waits while the peer reads slowly. Raises Cancelled when it is gone."""


class Session:
    """Events in, deliveries and live text out. Ends when the adapter does, is replaced, or the host stops."""

    def __init__(
        self,
        connection: Connection,
        stream: Stream,
        tasks: asyncio.TaskGroup,
        *,
        acceptor: Acceptor,
        outbox: Outbox,
        feeds: Feeds,
        runs: Runs,
        writer: Writer,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._tasks = tasks
        self._acceptor = acceptor
        self._outbox = outbox
        self._writer = writer
        self._live = LiveText(feeds, runs, connection.caller.workspace_id, connection.outbound, tasks)
        self._chats: dict[str, asyncio.Task[None]] = {}
        self._log = structlog.get_logger("portway.server.adapters").bind(adapter=connection.key[1])

    async def run(self, draining: asyncio.Event) -> None:
        """Until the connection is over, and everything that was begun is answered."""
        writing = self._tasks.create_task(self._write(), name="adapter-write")
        async with asyncio.TaskGroup() as begun:
            ends = {
                self._tasks.create_task(self._read(begun), name="adapter-read"),
                self._tasks.create_task(self._replaced(), name="adapter-replaced"),
                self._tasks.create_task(self._drained(draining), name="adapter-drained"),
            }
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            self._connection.open = False
            for end in ends:
                end.cancel()
        self._live.stop_all()
        self._connection.outbound.close()
        await writing

    async def _write(self) -> None:
        outbound = self._connection.outbound
        while (frame := await outbound.next()) is not None:
            await self._stream.write(frame)

    async def _replaced(self) -> None:
        await self._connection.replaced.wait()
        self._connection.outbound.put(ReplacedBy(self._connection.replaced_by))

    async def _drained(self, draining: asyncio.Event) -> None:
        """The host stops: nothing more is given out, and what the adapter holds may still be told of."""
        await draining.wait()
        self._connection.open = False
        self._connection.outbound.put(Draining("The host is stopping.", RETRY_AFTER_DRAIN))
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._connection.all_told.wait()

    async def _read(self, begun: asyncio.TaskGroup) -> None:
        while (frame := await self._stream.read()) is not None:
            match frame:
                case EventSubmitted():
                    await self._connection.outbound.reserve_answer()
                    self._submit(frame, begun)
                case ResultTold(result):
                    await self._connection.outbound.reserve_answer()
                    begun.create_task(self._settle(result))
                case CursorSaved():
                    await self._connection.outbound.reserve_answer()
                    begun.create_task(self._save(frame))
                case WatchAsked(run_id, _, True):
                    self._live.stop(run_id)
                case WatchAsked(run_id, after_sequence, _):
                    await self._live.watch(run_id, after_sequence)
                case _:
                    assert_never(frame)

    def _submit(self, frame: EventSubmitted, begun: asyncio.TaskGroup) -> None:
        """Events of one chat are accepted in the order in which they came; those of others at the same time."""
        if isinstance(frame.submit, PortwayError):
            self._connection.outbound.put(EventAnswered(frame.ref, frame.submit))
            return
        chat = frame.submit.facts.conversation_id or frame.submit.facts.chat_key
        task = begun.create_task(self._accept(frame.ref, frame.submit, self._chats.get(chat)))
        if chat:
            self._chats[chat] = task
            task.add_done_callback(lambda done: self._leave_chat(chat, done))

    def _leave_chat(self, chat: str, done: "asyncio.Task[None]") -> None:
        if self._chats.get(chat) is done:
            del self._chats[chat]

    async def _accept(self, ref: int, submit: Submit, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await asyncio.wait([before])
        answer = await outcome_of(self._acceptor.submit(self._connection.caller, submit), "event of an adapter")
        self._connection.outbound.put(EventAnswered(ref, answer))
        if isinstance(answer, Accepted) and answer.run_id and self._connection.hello.live_updates:
            self._live.follow(answer.run_id, answer.conversation_id)

    async def _settle(self, result: Result) -> None:
        """Until it is on disk. What the disk refuses now may be taken later; the adapter has done its part."""
        workspace_id = self._connection.caller.workspace_id
        try:
            while True:
                try:
                    await self._outbox.settle(self._connection, workspace_id, result)
                    return
                except NotFound:
                    self._log.warning("a result names no delivery of this adapter", delivery_id=result.delivery_id)
                    return
                except PortwayError as error:
                    self._log.warning("a result could not be recorded yet", error=str(error))
                    if not self._connection.open:
                        # The adapter tells it again when it comes back.
                        return
                    await asyncio.sleep(_RECORD_AGAIN)
        finally:
            self._connection.told(result.delivery_id)
            self._connection.outbound.give_back_answer()

    async def _save(self, frame: CursorSaved) -> None:
        workspace_id, adapter_id = self._connection.key
        generation = self._connection.generation
        saved = await outcome_of(
            self._writer.run(lambda tx: save_cursor(tx, workspace_id, adapter_id, frame.name, frame.value, generation)),
            "cursor of an adapter",
        )
        if frame.ref:
            self._connection.outbound.put(CursorAnswered(frame.ref, saved))
            return
        self._connection.outbound.give_back_answer()
        if saved is not None:
            self._log.warning("a value could not be kept for the adapter", name=frame.name, error=str(saved))
