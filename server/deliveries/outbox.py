"""The outbox: hands pending deliveries to the adapters that serve their surface, in order, until each has an outcome.

The database is the outbox; what is here is a view of it for the surfaces that have a connection. A delivery that is on
its way is pending on disk, so that a crash offers it again under the same id. All state changes in the event loop.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import structlog

from portway.rpc.errors import NotFound, PortwayError
from portway.server.deliveries.feed import DeliveryFeed
from portway.server.deliveries.lanes import ChannelQueue
from portway.server.deliveries.settle import Result, final_outcome, outcome_of
from portway.server.deliveries.store import (
    Deliveries,
    discard_delivery,
    doubt_sent,
    enqueue_delivery,
    expire_delivery,
    read_delivery,
    record_outcome,
    retry_delivery,
)
from portway.server.deliveries.types import Channel, Delivery, DeliveryState, NewDelivery
from portway.server.storage_engine.clock import SECOND
from portway.server.storage_engine.clock import now as wall_clock
from portway.server.storage_engine.transaction import Transaction
from portway.server.storage_engine.writer import Writer

DEFAULT_TTL_SECONDS = 86_400.0


class Sink(Protocol):
    """A connection that takes deliveries."""

    @property
    def credit(self) -> int:
        """How many it may hold without a result, per channel."""

    @property
    def open(self) -> bool:
        """It takes more."""

    def serves(self, channel: Channel) -> bool:
        """It sends for this account."""

    def holds(self, delivery_id: str) -> bool:
        """It was given this delivery, and has told nothing of it yet."""

    def deliver(self, delivery: Delivery) -> None:
        """Takes it without waiting; the result comes through `Outbox.settle`."""


@dataclass(frozen=True, slots=True)
class OutboxSettings:
    """`capacity`: deliveries of one channel in memory; `batch`: those read at once beyond it. Times in seconds."""

    capacity: int = 1_000
    batch: int = 250
    sweep_every: float = 15.0
    look_again_every: float = 1.0
    channels: int = 4_096


@dataclass(slots=True)
class _Served:
    queue: ChannelQueue
    sink: Sink


class Outbox:
    """`run` must be running. `add` belongs into a unit of work, `wake` after its commit."""

    def __init__(
        self,
        writer: Writer,
        deliveries: Deliveries,
        settings: OutboxSettings | None = None,
        *,
        feed: DeliveryFeed | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._writer = writer
        self.feed = feed or DeliveryFeed()
        self._deliveries = deliveries
        self._settings = settings or OutboxSettings()
        self._clock = clock
        self._chance = chance
        self._sinks: list[Sink] = []
        self._served: dict[Channel, _Served] = {}
        self._to_fill: dict[Channel, None] = {}
        self._work = asyncio.Event()
        self._sweep_now = asyncio.Event()
        self.ended: Callable[[Delivery], None] = lambda _: None
        self._log = structlog.get_logger("portway.server.deliveries")

    def add(self, tx: Transaction, delivery: NewDelivery) -> Delivery:
        """In a unit of work: put it into the outbox. The same id again answers the first one."""
        return enqueue_delivery(tx, delivery)

    def wake(self, delivery: Delivery) -> None:
        """After the commit: send it as soon as its turn comes."""
        self.feed.publish(delivery)
        served = self._serve(delivery.channel)
        if served is not None and delivery.state is DeliveryState.PENDING:
            served.queue.offer(delivery)
            self._pump(delivery.channel, served)

    async def attach(self, sink: Sink, workspace_id: str) -> None:
        """A connection is ready: it gets what waits for it, and what comes."""
        self._sinks.append(sink)
        for channel in await self._deliveries.channels(workspace_id):
            self._serve(channel)

    def detach(self, sink: Sink) -> None:
        """A connection is gone. What it held without a result is pending again."""
        if sink in self._sinks:
            self._sinks.remove(sink)
        for channel, served in [item for item in self._served.items() if item[1].sink is sink]:
            other = self._sink_for(channel)
            if other is None:
                del self._served[channel]
                self._to_fill.pop(channel, None)
                continue
            served.queue.land()
            served.queue.credit = other.credit
            served.sink = other
            self._pump(channel, served)

    async def settle(self, sink: Sink, workspace_id: str, result: Result) -> Delivery:
        """Note what an adapter tells of an attempt; answers the delivery as it is now.

        Raises NotFound, also for a delivery of an account that the connection does not serve. Once it is begun it is
        done, whether or not somebody still waits for it.
        """

        # The usual result needs one statement: it is of a delivery that the connection was given, and it ends it.
        certain = final_outcome(result, wall_clock()) if sink.holds(result.delivery_id) else None

        def unit(tx: Transaction) -> Delivery:
            if certain is not None:
                return record_outcome(tx, workspace_id, result.delivery_id, certain)
            before = read_delivery(tx, workspace_id, result.delivery_id)
            if not sink.serves(before.channel):
                raise NotFound.of("delivery", result.delivery_id)
            outcome = outcome_of(result, before, tx.now, self._chance)
            return record_outcome(tx, workspace_id, result.delivery_id, outcome)

        committed = self._writer.submit(unit)
        committed.add_done_callback(self._settled)
        return await asyncio.shield(committed)

    async def retry(self, workspace_id: str, delivery_id: str) -> Delivery:
        """Somebody wants it sent again, with a new span of life. Raises NotFound; WrongState."""

        def unit(tx: Transaction) -> Delivery:
            before = read_delivery(tx, workspace_id, delivery_id)
            span = before.expire_time - before.create_time if before.expire_time else 0
            return retry_delivery(tx, workspace_id, delivery_id, tx.now + span if span else 0)

        delivery = await self._writer.run(unit)
        self.feed.publish(delivery)
        served = self._serve(delivery.channel)
        if served is not None:
            served.queue.put_back(delivery)
            self._pump(delivery.channel, served)
        return delivery

    async def discard(self, workspace_id: str, delivery_id: str) -> Delivery:
        """Somebody gives it up. Raises NotFound; WrongState."""
        delivery = await self._writer.run(lambda tx: discard_delivery(tx, workspace_id, delivery_id))
        self._moved(delivery)
        return delivery

    def in_flight(self, delivery: Delivery) -> bool:
        """An adapter holds it and has told nothing yet."""
        served = self._served.get(delivery.channel)
        return served is not None and served.queue.flying(delivery.delivery_id) is not None

    async def run(self) -> None:
        """Fills, times and sweeps until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._fill_for_ever(), name="outbox-fill")
            tasks.create_task(self._time_for_ever(), name="outbox-time")
            tasks.create_task(self._sweep_for_ever(), name="outbox-sweep")

    def _serve(self, channel: Channel) -> _Served | None:
        """The channel's queue, made when a connection serves it and there is none yet."""
        served = self._served.get(channel)
        if served is not None:
            return served
        sink = self._sink_for(channel)
        if sink is None:
            return None
        if len(self._served) >= self._settings.channels:
            self._forget_idle()
        queue = ChannelQueue(credit=sink.credit, capacity=self._settings.capacity)
        served = self._served[channel] = _Served(queue, sink)
        self._pump(channel, served)
        return served

    def _sink_for(self, channel: Channel) -> Sink | None:
        return next((sink for sink in reversed(self._sinks) if sink.serves(channel)), None)

    def _forget_idle(self) -> None:
        for channel in [channel for channel, served in self._served.items() if served.queue.idle]:
            del self._served[channel]

    def _settled(self, committed: "asyncio.Future[Delivery]") -> None:
        if not committed.cancelled() and committed.exception() is None:
            self._moved(committed.result())

    def _moved(self, delivery: Delivery) -> None:
        """Its state has changed on disk."""
        if delivery.state is not DeliveryState.PENDING:
            self.ended(delivery)
        self.feed.publish(delivery)
        served = self._served.get(delivery.channel)
        if served is None:
            return
        if delivery.state is DeliveryState.PENDING:
            wait = delivery.next_attempt_time / SECOND - time.time()
            served.queue.postpone(delivery, self._clock() + max(0.0, wait))
        else:
            served.queue.finish(delivery.delivery_id)
        self._pump(delivery.channel, served)

    def _pump(self, channel: Channel, served: _Served) -> None:
        """Give the connection what it may have."""
        queue, sink = served.queue, served.sink
        while sink.open and (delivery := queue.take(self._clock())) is not None:
            if 0 < delivery.expire_time <= time.time() * SECOND:
                self._sweep_now.set()
                queue.finish(delivery.delivery_id)
                continue
            sink.deliver(delivery)
        if queue.needs_filling:
            self._to_fill[channel] = None
        self._work.set()

    async def _fill_for_ever(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._to_fill:
                channel = next(iter(self._to_fill))
                del self._to_fill[channel]
                served = self._served.get(channel)
                if served is not None and served.queue.needs_filling:
                    await self._fill(channel, served)

    async def _fill(self, channel: Channel, served: _Served) -> None:
        served.queue.begin_filling()
        try:
            # The first of those that may go are on their way already.
            limit = self._settings.batch + served.queue.credit
            backlog = await self._deliveries.backlog(channel, self._settings.capacity, limit)
        except PortwayError as error:
            self._log.warning("the outbox could not be read; it will be again", error=str(error))
            served.queue.fail_filling()
            return
        served.queue.fill(backlog.deliveries, complete=backlog.complete, now=self._clock(), wall=backlog.time)
        self._pump(channel, served)

    async def _time_for_ever(self) -> None:
        """Wakes lanes whose pause is over, and looks again for channels that have more than fits in memory."""
        while True:
            await asyncio.sleep(self._settings.look_again_every)
            for channel, served in list(self._served.items()):
                served.queue.look_again()
                self._pump(channel, served)

    async def _sweep_for_ever(self) -> None:
        """Gives up what waited too long, connected or not; and checks that nothing pending was missed."""
        while True:
            try:
                async with asyncio.timeout(self._settings.sweep_every):
                    await self._sweep_now.wait()
            except TimeoutError:
                pass
            self._sweep_now.clear()
            try:
                await self._expire()
                await self._doubt()
                await self._check()
            except PortwayError as error:
                self._log.warning("the outbox could not be swept; it will be again", error=str(error))
                await asyncio.sleep(self._settings.look_again_every)

    async def _expire(self) -> None:
        while batch := await self._deliveries.too_old(self._settings.batch):
            for delivery in await self._writer.run(partial(_expire_all, batch)):
                self.feed.publish(delivery)
            self._log.warning("deliveries were given up because their time was over", count=len(batch))

    async def _doubt(self) -> None:
        """What was sent and not confirmed for too long is unknown: an operator sees it, and decides."""
        while batch := await self._writer.run(partial(doubt_sent, limit=self._settings.batch)):
            for delivery in batch:
                self.feed.publish(delivery)
            self._log.warning(
                "sent deliveries were not confirmed in time; what became of them is unknown", count=len(batch)
            )

    async def _check(self) -> None:
        for channel, served in list(self._served.items()):
            queue = served.queue
            if queue.complete:
                count = await self._deliveries.pending_count(channel, self._settings.capacity + 1)
                if count != queue.size:
                    queue.spill()
                    self._pump(channel, served)


def _expire_all(batch: Sequence[tuple[str, str]], tx: Transaction) -> list[Delivery]:
    return [expire_delivery(tx, workspace_id, delivery_id) for workspace_id, delivery_id in batch]
