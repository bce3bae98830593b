"""AdapterService.Connect of the scripted host."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from portway.rpc.call import Call
from portway.rpc.errors import Cancelled, InvalidInput, Unavailable
from portway.rpc.ids import new_id
from portway.v1 import adapter_pb2, content_pb2, conversation_pb2, delivery_pb2, event_pb2, run_pb2
from tests.fakes.chat_store import ChatStore, StoredRun, now

Frames = Call[adapter_pb2.ConnectRequest, adapter_pb2.ConnectResponse]


class FaultPlan(Protocol):
    lose_acks: int
    double_deliveries: bool
    refuse_events: list[adapter_pb2.AdapterEventAck]


class Connection:
    """One adapter's stream, with everything that came over it."""

    def __init__(self, hello: adapter_pb2.AdapterHello, generation: int) -> None:
        self.hello = hello
        self.generation = generation
        self.received: list[adapter_pb2.ConnectRequest] = []
        self.outgoing: asyncio.Queue[adapter_pb2.ConnectResponse | None] = asyncio.Queue()
        self.watching: dict[str, asyncio.Task[None]] = {}
        self.ended = asyncio.Event()
        self.given: set[str] = set()

    def send(self, **kind: object) -> None:
        self.outgoing.put_nowait(adapter_pb2.ConnectResponse(**kind))  # type: ignore[arg-type]


class Connections:
    """The connections over time; the last one is the current one."""

    def __init__(
        self,
        store: ChatStore,
        faults: FaultPlan,
        violations: list[str],
        start_run: Callable[[StoredRun], None],
    ) -> None:
        self.store = store
        self.faults = faults
        self.violations = violations
        self.start_run = start_run
        self.all: list[Connection] = []
        self.changed = asyncio.Event()

    @property
    def current(self) -> Connection | None:
        return self.all[-1] if self.all and not self.all[-1].ended.is_set() else None

    def enter(self, hello: adapter_pb2.AdapterHello) -> Connection:
        self.store.generation += 1
        connection = Connection(hello, self.store.generation)
        before = self.current
        if before is not None and before.hello.adapter_id == hello.adapter_id:
            before.send(replaced=adapter_pb2.AdapterReplaced(generation=connection.generation))
            before.outgoing.put_nowait(None)
        self.all.append(connection)
        self.changed.set()
        return connection

    def forget(self) -> None:
        for connection in self.all:
            connection.ended.set()

    def cut(self) -> None:
        if self.current is not None:
            self.current.ended.set()

    def drain(self, seconds: float = 0.05) -> None:
        assert self.current is not None
        drain = adapter_pb2.AdapterDrain(reason="stopping")
        drain.retry_after.FromMilliseconds(int(seconds * 1000))
        self.current.send(drain=drain)

    def deliver(self, delivery: delivery_pb2.Delivery) -> None:
        """To the current connection, in the order of the conversation; it waits where there is none."""
        connection = self.current
        if connection is None or delivery.delivery_id in connection.given:
            return
        if not any(one.surface == delivery.target.surface for one in connection.hello.surfaces):
            return
        connection.given.add(delivery.delivery_id)
        for _ in range(2 if self.faults.double_deliveries else 1):
            connection.send(delivery=delivery)

    def deliver_pending(self) -> None:
        for delivery in self.store.deliveries.values():
            if delivery.state == delivery_pb2.DELIVERY_STATE_PENDING:
                self.deliver(delivery)


class ScriptedAdapterService:
    """Strict: whatever breaks the contract is noted and ends the stream."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def Connect(self, call: Frames) -> None:
        first = await call.read()
        if first is None or first.WhichOneof("kind") != "hello":
            self._connections.violations.append("the first frame was no hello")
            raise InvalidInput("hello comes first")
        hello = first.hello
        for result in hello.recent_results:
            self._connections.store.settle(result)
        connection = self._connections.enter(hello)
        session = Session(self._connections, connection, call)
        await session.run()


class Session:
    """One connection until one side ends it."""

    def __init__(self, connections: Connections, connection: Connection, call: Frames) -> None:
        self._all = connections
        self._connection = connection
        self._call = call
        self._store = connections.store

    async def run(self) -> None:
        welcome = adapter_pb2.AdapterWelcome(
            host_version="scripted", generation=self._connection.generation, cursors=self._store.cursors
        )
        self._connection.send(welcome=welcome)
        self._all.deliver_pending()
        tasks = [
            asyncio.ensure_future(self._write()),
            asyncio.ensure_future(self._read()),
            asyncio.ensure_future(self._connection.ended.wait()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is not None and not isinstance(error, Cancelled):
                    raise error
            if tasks[2] in done:
                raise Unavailable("the connection was cut")
        finally:
            self._connection.ended.set()
            for task in [*tasks[1:], *self._connection.watching.values()]:
                task.cancel()
            # A write that is broken off half-way keeps the library from sending the status.
            self._connection.outgoing.put_nowait(None)
            await asyncio.gather(*tasks, *self._connection.watching.values(), return_exceptions=True)

    async def _write(self) -> None:
        while (frame := await self._connection.outgoing.get()) is not None:
            await self._call.write(frame)

    async def _read(self) -> None:
        while (frame := await self._call.read()) is not None:
            self._connection.received.append(frame)
            match frame.WhichOneof("kind"):
                case "event":
                    self._take(frame.event)
                case "result":
                    self._store.settle(frame.result)
                case "cursor":
                    self._keep(frame.cursor)
                case "watch":
                    self._watch(frame.watch.run_id, frame.watch.after_sequence, stop=frame.watch.stop)
                case kind:
                    self._all.violations.append(f"a frame {kind} in the middle of the stream")
                    raise InvalidInput("a frame that does not belong here")

    def _keep(self, cursor: adapter_pb2.AdapterCursorSaved) -> None:
        self._store.cursors[cursor.name] = cursor.value
        if cursor.ref:
            self._connection.send(cursor_ack=adapter_pb2.AdapterCursorAck(ref=cursor.ref))

    def _take(self, event: adapter_pb2.AdapterEvent) -> None:
        if self._all.faults.refuse_events:
            refusal = self._all.faults.refuse_events.pop(0)
            refusal.ref = event.ref
            self._connection.send(ack=refusal)
            return
        submit = event.submit
        response, run = self._accept(submit)
        if self._all.faults.lose_acks:
            self._all.faults.lose_acks -= 1
            if run is not None:
                self._all.start_run(run)
            self._connection.ended.set()
            return
        self._connection.send(ack=adapter_pb2.AdapterEventAck(ref=event.ref, accepted=response))
        if run is not None:
            if self._connection.hello.live_updates:
                self._watch(run.run.run_id, 0)
            self._all.start_run(run)

    def _accept(self, submit: event_pb2.SubmitEventRequest) -> tuple[event_pb2.SubmitEventResponse, StoredRun | None]:
        event = submit.event
        key = (event.source, submit.idempotency_key)
        body = event.SerializeToString(deterministic=True)
        if key in self._store.events:
            earlier, response = self._store.events[key]
            if earlier != body:
                self._all.violations.append(f"key {key} came again with another body")
            again = event_pb2.SubmitEventResponse()
            again.CopyFrom(response)
            again.duplicate = True
            return again, None
        address = event.address
        conversation_id = address.conversation_id
        item = self._store.add_item(conversation_id, content_pb2.MESSAGE_ROLE_USER, event.parts)
        conversation = self._store.conversations.setdefault(
            conversation_id,
            conversation_pb2.Conversation(
                conversation_id=conversation_id, surface=address.surface, title=item.content[:80], create_time=now()
            ),
        )
        conversation.message_count += 1
        conversation.last_message_time.CopyFrom(now())
        run = StoredRun(
            run_pb2.Run(
                run_id=new_id("run"), conversation_id=conversation_id, state=run_pb2.RUN_STATE_QUEUED, create_time=now()
            ),
            item.content,
            address.surface,
        )
        self._store.runs[run.run.run_id] = run
        response = event_pb2.SubmitEventResponse(
            event_id=new_id("evt"),
            run_id=run.run.run_id,
            conversation_id=conversation_id,
            outcome=event_pb2.EVENT_OUTCOME_RUN,
            message_id=item.item_id,
        )
        self._store.events[key] = (body, response)
        return response, run

    def _watch(self, run_id: str, after: int, *, stop: bool = False) -> None:
        earlier = self._connection.watching.pop(run_id, None)
        if earlier is not None:
            earlier.cancel()
        if not stop:
            self._connection.watching[run_id] = asyncio.ensure_future(self._follow(run_id, after))

    async def _follow(self, run_id: str, after: int) -> None:
        run = self._store.runs.get(run_id)
        if run is None:
            error = adapter_pb2.RunUpdate(run_id=run_id)
            error.error.code = "NOT_FOUND"
            self._connection.send(update=error)
            return
        queue: asyncio.Queue[run_pb2.RunEvent] = asyncio.Queue()
        run.watchers.add(queue)
        try:
            replay = run.ledger[after:]
            seen = len(run.ledger)
            if replay:
                self._update(run, *replay)
            while run.open or not queue.empty():
                event = await queue.get()
                # What was committed while the replay was made is in both.
                if not event.sequence or event.sequence > seen:
                    self._update(run, event)
        finally:
            run.watchers.discard(queue)

    def _update(self, run: StoredRun, *events: run_pb2.RunEvent) -> None:
        update = adapter_pb2.RunUpdate(run_id=run.run.run_id, conversation_id=run.run.conversation_id, events=events)
        self._connection.send(update=update)
