"""The outbox over a real database, with a connection that only remembers what it was given."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from portway.rpc.errors import NotFound, WrongState
from portway.server.deliveries.ledger import DeliveryLedger
from portway.server.deliveries.outbox import Outbox, OutboxSettings
from portway.server.deliveries.settle import MAX_ATTEMPTS, Answer, Result
from portway.server.deliveries.store import FIRST_PAGE, StoredDeliveries
from portway.server.deliveries.types import Channel, Delivery, DeliveryFilter, DeliveryState
from portway.server.storage_engine.database import Database
from tests.fakes.engine import a_reply

QUICK = OutboxSettings(sweep_every=0.05, look_again_every=0.01)


class Sink:
    """Remembers what it was given. Serves one surface of the default workspace."""

    def __init__(self, surface: str = "web_chat", credit: int = 16, bots: frozenset[str] = frozenset()) -> None:
        self.credit = credit
        self.open = True
        self.given: asyncio.Queue[Delivery] = asyncio.Queue()
        self.held: set[str] = set()
        self._surface = surface
        self._bots = bots

    def serves(self, channel: Channel) -> bool:
        return (
            channel.workspace_id == "default"
            and channel.surface == self._surface
            and (not self._bots or channel.bot_id in self._bots)
        )

    def holds(self, delivery_id: str) -> bool:
        return delivery_id in self.held

    def deliver(self, delivery: Delivery) -> None:
        self.held.add(delivery.delivery_id)
        self.given.put_nowait(delivery)

    async def next(self) -> Delivery:
        async with asyncio.timeout(60):
            return await self.given.get()


@asynccontextmanager
async def an_outbox(database: Database, settings: OutboxSettings = QUICK, chance: float = 0.0) -> AsyncIterator[Outbox]:
    outbox = Outbox(database.writer, StoredDeliveries(database.reader), settings, chance=lambda: chance)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(outbox.run())
        yield outbox
        running.cancel()


async def put(database: Database, outbox: Outbox, text: str, **where: str | int) -> Delivery:
    new = a_reply(text, **where)  # type: ignore[arg-type]  # the same keyword arguments
    delivery = await database.writer.run(lambda tx: outbox.add(tx, new))
    outbox.wake(delivery)
    return delivery


def told(delivery: Delivery, answer: Answer, **more: float) -> Result:
    return Result(delivery_id=delivery.delivery_id, answer=answer, error_code="", **more)  # type: ignore[arg-type]


async def until_state(database: Database, delivery: Delivery, state: DeliveryState) -> Delivery:
    deliveries = StoredDeliveries(database.reader)
    async with asyncio.timeout(60):
        while True:
            now = await deliveries.delivery(delivery.workspace_id, delivery.delivery_id)
            if now.state is state:
                return now
            await asyncio.sleep(0)


async def test_a_delivery_goes_to_the_connection_that_serves_its_surface(database: Database) -> None:
    async with an_outbox(database) as outbox:
        web, telegram = Sink(), Sink("telegram")
        await outbox.attach(web, "default")
        await outbox.attach(telegram, "default")
        sent = await put(database, outbox, "hello", surface="telegram")
        assert (await telegram.next()).delivery_id == sent.delivery_id
        assert web.given.empty()


async def test_a_bot_of_its_own_is_served_by_the_connection_that_names_it(database: Database) -> None:
    async with an_outbox(database) as outbox:
        one, other = Sink(bots=frozenset({"bot-1"})), Sink(bots=frozenset({"bot-2"}))
        await outbox.attach(one, "default")
        await outbox.attach(other, "default")
        await put(database, outbox, "hello", bot_id="bot-1")
        assert (await one.next()).bot_id == "bot-1"
        assert other.given.empty()


async def test_what_was_put_while_nobody_was_connected_goes_out_in_order_when_somebody_is(database: Database) -> None:
    async with an_outbox(database) as outbox:
        made = [await put(database, outbox, str(number)) for number in range(5)]
        sink = Sink()
        await outbox.attach(sink, "default")
        for expected in made:
            delivery = await sink.next()
            assert delivery.delivery_id == expected.delivery_id
            await outbox.settle(sink, "default", told(delivery, Answer.ACKNOWLEDGED))


async def test_after_a_restart_what_was_on_its_way_is_sent_again_under_its_id(database: Database) -> None:
    async with an_outbox(database) as before:
        sink = Sink()
        await before.attach(sink, "default")
        sent = await put(database, before, "hello")
        await sink.next()
    async with an_outbox(database) as after:
        sink = Sink()
        await after.attach(sink, "default")
        assert (await sink.next()).delivery_id == sent.delivery_id


async def test_an_acknowledged_delivery_is_never_sent_again(database: Database) -> None:
    async with an_outbox(database) as outbox:
        sink = Sink()
        await outbox.attach(sink, "default")
        first = await put(database, outbox, "one")
        await sink.next()
        done = await outbox.settle(sink, "default", told(first, Answer.ACKNOWLEDGED))
        assert done.state is DeliveryState.ACKNOWLEDGED
        assert done.attempts == 1
        outbox.detach(sink)
        again = Sink()
        await outbox.attach(again, "default")
        second = await put(database, outbox, "two")
        assert (await again.next()).delivery_id == second.delivery_id


async def test_a_retryable_failure_is_tried_again_after_a_pause_and_before_its_successors(database: Database) -> None:
    async with an_outbox(database) as outbox:
        sink = Sink()
        await outbox.attach(sink, "default")
        first, second = await put(database, outbox, "one"), await put(database, outbox, "two")
        await sink.next()
        failed = await outbox.settle(sink, "default", told(first, Answer.RETRYABLE))
        assert failed.state is DeliveryState.PENDING
        assert failed.next_attempt_time > time.time() * 1_000_000
        again = await sink.next()
        assert (again.delivery_id, again.attempts) == (first.delivery_id, 1)
        await outbox.settle(sink, "default", told(again, Answer.ACKNOWLEDGED))
        assert (await sink.next()).delivery_id == second.delivery_id


async def test_a_delivery_that_was_tried_too_often_is_a_dead_letter(database: Database) -> None:
    async with an_outbox(database) as outbox:
        sink = Sink()
        await outbox.attach(sink, "default")
        delivery = await put(database, outbox, "hello")
        await sink.next()
        for _ in range(MAX_ATTEMPTS - 1):
            delivery = await outbox.settle(sink, "default", told(delivery, Answer.RETRYABLE))
            assert delivery.state is DeliveryState.PENDING
        delivery = await outbox.settle(sink, "default", told(delivery, Answer.RETRYABLE))
        assert delivery.state is DeliveryState.DEAD_LETTER


async def test_an_unknown_outcome_is_never_sent_again_blindly_and_holds_up_nobody(database: Database) -> None:
    async with an_outbox(database) as outbox:
        sink = Sink()
        await outbox.attach(sink, "default")
        first, second = await put(database, outbox, "one"), await put(database, outbox, "two")
        await sink.next()
        await outbox.settle(sink, "default", told(first, Answer.UNKNOWN))
        assert (await sink.next()).delivery_id == second.delivery_id
        outbox.detach(sink)
        again = Sink()
        await outbox.attach(again, "default")
        assert (await again.next()).delivery_id == second.delivery_id
        assert again.given.empty()


async def test_an_unknown_outcome_that_turns_out_well_is_acknowledged(database: Database) -> None:
    async with an_outbox(database) as outbox:
        sink = Sink()
        await outbox.attach(sink, "default")
        delivery = await put(database, outbox, "one")
        await sink.next()
        await outbox.settle(sink, "default", told(delivery, Answer.UNKNOWN))
        done = await outbox.settle(sink, "default", told(delivery, Answer.ACKNOWLEDGED))
        assert done.state is DeliveryState.ACKNOWLEDGED


async def test_an_operator_may_send_an_unknown_or_failed_one_again_under_its_id(database: Database) -> None:
    async with an_outbox(database) as outbox:
        sink = Sink()
        await outbox.attach(sink, "default")
        delivery = await put(database, outbox, "one", expire_time=round((time.time() + 60) * 1_000_000))
        await sink.next()
        await outbox.settle(sink, "default", told(delivery, Answer.FAILED))
        again = await outbox.retry("default", delivery.delivery_id)
        assert again.state is DeliveryState.PENDING
        assert again.expire_time > delivery.expire_time
        assert (await sink.next()).delivery_id == delivery.delivery_id
        with pytest.raises(WrongState):
            await outbox.retry("default", delivery.delivery_id)


async def test_discarding_the_first_lets_the_next_one_go(database: Database) -> None:
    async with an_outbox(database) as outbox:
        sink = Sink()
        await outbox.attach(sink, "default")
        first, second = await put(database, outbox, "one"), await put(database, outbox, "two")
        await sink.next()
        await outbox.settle(sink, "default", told(first, Answer.RETRYABLE, retry_after=3600))
        discarded = await outbox.discard("default", first.delivery_id)
        assert discarded.state is DeliveryState.DISCARDED
        assert (await sink.next()).delivery_id == second.delivery_id


async def test_what_waited_too_long_is_given_up_connected_or_not(database: Database) -> None:
    async with an_outbox(database) as outbox:
        old = await put(database, outbox, "late", expire_time=1)
        await until_state(database, old, DeliveryState.EXPIRED)
        sink = Sink()
        await outbox.attach(sink, "default")
        late = await put(database, outbox, "late too", expire_time=1)
        fresh = await put(database, outbox, "in time")
        assert (await sink.next()).delivery_id == fresh.delivery_id
        await until_state(database, late, DeliveryState.EXPIRED)


async def test_a_pause_that_would_end_after_its_time_gives_it_up_at_once(database: Database) -> None:
    async with an_outbox(database) as outbox:
        sink = Sink()
        await outbox.attach(sink, "default")
        soon = round((time.time() + 30) * 1_000_000)
        delivery = await put(database, outbox, "one", expire_time=soon)
        await sink.next()
        done = await outbox.settle(sink, "default", told(delivery, Answer.RETRYABLE, retry_after=60))
        assert done.state is DeliveryState.EXPIRED


async def test_a_connection_that_takes_no_more_gets_no_more(database: Database) -> None:
    async with an_outbox(database) as outbox:
        sink = Sink()
        await outbox.attach(sink, "default")
        sink.open = False
        waiting = await put(database, outbox, "one")
        assert sink.given.empty()
        outbox.detach(sink)
        other = Sink()
        await outbox.attach(other, "default")
        assert (await other.next()).delivery_id == waiting.delivery_id


async def test_no_connection_can_tell_of_a_delivery_of_an_account_that_it_does_not_serve(database: Database) -> None:
    async with an_outbox(database) as outbox:
        delivery = await put(database, outbox, "one", surface="telegram")
        with pytest.raises(NotFound):
            await outbox.settle(Sink("web_chat"), "default", told(delivery, Answer.ACKNOWLEDGED))


async def test_more_than_fits_in_memory_is_all_sent_in_order(database: Database) -> None:
    settings = OutboxSettings(capacity=5, batch=3, sweep_every=0.05, look_again_every=0.01)
    async with an_outbox(database, settings) as outbox:
        made: dict[str, list[str]] = {}
        sink = Sink(credit=2)
        for number in range(40):
            if number == 20:
                await outbox.attach(sink, "default")
            name = f"cnv_{number % 4}"
            delivery = await put(database, outbox, str(number), conversation_id=name)
            made.setdefault(name, []).append(delivery.delivery_id)
        got: dict[str, list[str]] = {}
        for _ in range(40):
            delivery = await sink.next()
            got.setdefault(delivery.conversation_id, []).append(delivery.delivery_id)
            await outbox.settle(sink, "default", told(delivery, Answer.ACKNOWLEDGED))
        assert got == made


async def test_a_commit_that_nobody_told_of_is_found_by_the_sweep(database: Database) -> None:
    async with an_outbox(database) as outbox:
        sink = Sink()
        await outbox.attach(sink, "default")
        first = await put(database, outbox, "known")
        await sink.next()
        await outbox.settle(sink, "default", told(first, Answer.ACKNOWLEDGED))
        new = a_reply("committed, and then the task was cancelled")
        lost = await database.writer.run(lambda tx: outbox.add(tx, new))
        assert (await sink.next()).delivery_id == lost.delivery_id


async def test_the_ledger_shows_what_an_adapter_holds_as_sending(database: Database) -> None:
    async with an_outbox(database) as outbox:
        sink = Sink()
        await outbox.attach(sink, "default")
        ledger = DeliveryLedger(StoredDeliveries(database.reader), outbox)
        held = await put(database, outbox, "one")
        waiting = await put(database, outbox, "two")
        await sink.next()

        async def ids(*states: DeliveryState) -> list[str]:
            page, after = await ledger.page("default", DeliveryFilter(states=states), FIRST_PAGE, 10)
            assert after is None
            return [one.delivery_id for one in page]

        assert await ids(DeliveryState.SENDING) == [held.delivery_id]
        assert await ids(DeliveryState.PENDING) == [waiting.delivery_id]
        assert await ids() == [waiting.delivery_id, held.delivery_id]


async def test_a_result_that_nobody_waits_for_any_more_still_counts(database: Database) -> None:
    async with an_outbox(database) as outbox:
        sink = Sink()
        await outbox.attach(sink, "default")
        first, second = await put(database, outbox, "one"), await put(database, outbox, "two")
        await sink.next()
        telling = asyncio.ensure_future(outbox.settle(sink, "default", told(first, Answer.ACKNOWLEDGED)))
        await asyncio.sleep(0)
        telling.cancel()
        await until_state(database, first, DeliveryState.ACKNOWLEDGED)
        assert (await sink.next()).delivery_id == second.delivery_id
