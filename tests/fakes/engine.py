"""Stands in for the part of the host that runs agents, where a test is about something else.

What is submitted is really on disk, with real dedupe, and is answered by one delivery that repeats its text.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from portway.rpc.errors import NotFound, PortwayError
from portway.rpc.identity import Caller
from portway.rpc.ids import new_id
from portway.server.deliveries.outbox import Outbox
from portway.server.deliveries.types import Delivery, NewDelivery
from portway.server.events.store import append_event, find_duplicate
from portway.server.events.submit import Submit
from portway.server.events.types import Accepted, EventOutcome, NewEvent
from portway.server.runs.types import Run
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.transaction import Transaction
from portway.v1 import content_pb2, delivery_pb2


def a_reply(
    text: str,
    *,
    conversation_id: str = "cnv_1",
    surface: str = "web_chat",
    bot_id: str = "",
    workspace_id: str = "default",
    delivery_id: str = "",
    run_id: str = "",
    expire_time: int = 0,
) -> NewDelivery:
    """A text message for a chat."""
    part = content_pb2.ContentPart(text=content_pb2.TextPart(text=text))
    payload = delivery_pb2.DeliveryPayload(message=delivery_pb2.DeliveryMessage(parts=[part], kind="message"))
    target = delivery_pb2.DeliveryTarget(surface=surface, bot_id=bot_id, conversation_id=conversation_id)
    return NewDelivery(
        workspace_id=workspace_id,
        delivery_id=delivery_id or new_id("dlv"),
        conversation_id=conversation_id,
        surface=surface,
        bot_id=bot_id,
        target=target.SerializeToString(),
        payload=payload.SerializeToString(),
        run_id=run_id,
        expire_time=expire_time,
    )


def text_of(delivery: delivery_pb2.Delivery) -> str:
    """What a delivery says."""
    return "".join(part.text.text for part in delivery.payload.message.parts)


class EchoAcceptor:
    """Accepts every event and answers it with its own text. `refuse_next` makes it refuse the next one."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox
        self.refuse_next: PortwayError | None = None
        self.fail_next: Exception | None = None
        self.callers: list[Caller] = []

    async def submit(self, caller: Caller, submit: Submit) -> Accepted:
        self.callers.append(caller)
        if self.refuse_next is not None:
            error, self.refuse_next = self.refuse_next, None
            raise error
        if self.fail_next is not None:
            bug, self.fail_next = self.fail_next, None
            raise bug
        ids = new_id("evt"), new_id("run"), new_id("dlv")
        accepted, delivery = await self._database.writer.run(lambda tx: self._unit(tx, submit, *ids))
        if delivery is not None:
            self._outbox.wake(delivery)
        return accepted

    def _unit(
        self, tx: Transaction, submit: Submit, event_id: str, run_id: str, delivery_id: str
    ) -> tuple[Accepted, Delivery | None]:
        facts = submit.facts
        conversation_id = facts.conversation_id or f"chat-{facts.launcher_id}"
        event = NewEvent(
            workspace_id=facts.workspace_id,
            event_id=event_id,
            source=facts.source,
            dedupe_key=submit.key,
            body_hash=submit.body_hash,
            type=facts.type,
            event_time=submit.event_time,
            payload=submit.payload,
            conversation_id=conversation_id,
            outcome=EventOutcome.RUN,
            run_id=run_id,
        )
        duplicate = find_duplicate(tx, event)
        if duplicate is not None:
            return duplicate, None
        accepted = append_event(tx, event)
        reply = a_reply(
            f"echo: {facts.text}",
            conversation_id=conversation_id,
            surface=facts.surface,
            bot_id=facts.bot_id,
            workspace_id=facts.workspace_id,
            delivery_id=delivery_id,
            run_id=run_id,
        )
        return accepted, self._outbox.add(tx, reply)


@dataclass(slots=True)
class ScriptedBatch:
    payloads: Sequence[bytes]


@dataclass(slots=True)
class ScriptedFeeds:
    """Runs whose events a test pushes. Watching any other run is an error, as in the real ones."""

    queues: dict[str, asyncio.Queue[ScriptedBatch | None]] = field(default_factory=dict)
    watched_after: list[tuple[str, int]] = field(default_factory=list)
    watching: set[str] = field(default_factory=set)

    def push(self, run_id: str, *payloads: bytes) -> None:
        self._queue(run_id).put_nowait(ScriptedBatch(payloads))

    def end(self, run_id: str) -> None:
        self._queue(run_id).put_nowait(None)

    def _queue(self, run_id: str) -> "asyncio.Queue[ScriptedBatch | None]":
        return self.queues.setdefault(run_id, asyncio.Queue())

    @asynccontextmanager
    async def watch(
        self, workspace_id: str, run_id: str, after_sequence: int = 0
    ) -> AsyncIterator[AsyncIterator[ScriptedBatch]]:
        self.watched_after.append((run_id, after_sequence))
        self.watching.add(run_id)
        try:
            yield self._batches(run_id)
        finally:
            self.watching.discard(run_id)

    async def _batches(self, run_id: str) -> AsyncIterator[ScriptedBatch]:
        while (batch := await self._queue(run_id).get()) is not None:
            yield batch


@dataclass(slots=True)
class KnownRuns:
    """Runs by id."""

    runs: dict[str, Run] = field(default_factory=dict)

    async def run(self, workspace_id: str, run_id: str) -> Run:
        run = self.runs.get(run_id)
        if run is None or run.workspace_id != workspace_id:
            raise NotFound.of("run", run_id)
        return run
