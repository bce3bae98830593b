"""The outbox: one delivery per id, numbered in its conversation, ended once."""

from dataclasses import replace
from functools import partial

import pytest

from portway.rpc.errors import NotFound, WrongState
from portway.server.deliveries.store import (
    FIRST_PAGE,
    StoredDeliveries,
    discard_delivery,
    doubt_sent,
    enqueue_delivery,
    expire_delivery,
    record_outcome,
    retry_delivery,
)
from portway.server.deliveries.types import Channel, Delivery, DeliveryFilter, DeliveryState, NewDelivery, Outcome
from portway.server.storage_engine.database import Database
from tests.contracts.store.given import WORKSPACE, a_delivery

WEB_CHAT = Channel(WORKSPACE, "web_chat", "")


async def enqueued(database: Database, new: NewDelivery) -> Delivery:
    return await database.writer.run(lambda tx: enqueue_delivery(tx, new))


async def told(database: Database, delivery: Delivery, state: DeliveryState, **more: str | int) -> Delivery:
    outcome = Outcome(state=state, **more)  # type: ignore[arg-type]
    return await database.writer.run(lambda tx: record_outcome(tx, WORKSPACE, delivery.delivery_id, outcome))


async def test_the_same_reply_enqueued_again_is_the_same_delivery(database: Database) -> None:
    new = a_delivery()
    first = await enqueued(database, new)
    again = await enqueued(database, replace(new, payload=b"rendered a little differently"))
    assert again == first
    assert await StoredDeliveries(database.reader).delivery(WORKSPACE, new.delivery_id) == first


async def test_deliveries_are_numbered_in_their_conversation(database: Database) -> None:
    first = [await enqueued(database, a_delivery("cnv_1")) for _ in range(3)]
    other = await enqueued(database, a_delivery("cnv_2"))
    assert [delivery.sequence for delivery in first] == [1, 2, 3]
    assert other.sequence == 1


async def test_a_channel_finds_all_that_is_pending_in_order(database: Database) -> None:
    made = [await enqueued(database, a_delivery()) for _ in range(4)]
    await enqueued(database, a_delivery(surface="telegram"))
    await told(database, made[0], DeliveryState.ACKNOWLEDGED)
    await told(database, made[1], DeliveryState.UNKNOWN)
    deliveries = StoredDeliveries(database.reader)
    backlog = await deliveries.backlog(WEB_CHAT, 10, 10)
    assert backlog.complete
    assert [delivery.delivery_id for delivery in backlog.deliveries] == [made[2].delivery_id, made[3].delivery_id]
    assert await deliveries.pending_count(WEB_CHAT, 10) == 2
    assert await deliveries.counts(WORKSPACE) == {DeliveryState.PENDING: 3, DeliveryState.UNKNOWN: 1}
    assert sorted(channel.surface for channel in await deliveries.channels(WORKSPACE)) == ["telegram", "web_chat"]


async def test_past_its_capacity_a_channel_finds_what_may_go_next_in_each_conversation(database: Database) -> None:
    made = [await enqueued(database, a_delivery(f"cnv_{n % 2}")) for n in range(6)]
    await told(database, made[1], DeliveryState.PENDING, next_attempt_time=2**60)
    backlog = await StoredDeliveries(database.reader).backlog(WEB_CHAT, 5, 10)
    assert not backlog.complete
    assert [delivery.delivery_id for delivery in backlog.deliveries] == [made[0].delivery_id]


async def test_a_retried_delivery_counts_its_attempts(database: Database) -> None:
    made = await enqueued(database, a_delivery())
    await told(database, made, DeliveryState.PENDING, error_code="http.503", next_attempt_time=99)
    done = await told(database, made, DeliveryState.ACKNOWLEDGED, provider_message_id="m7")
    assert (done.state, done.attempts, done.provider_message_id) == (DeliveryState.ACKNOWLEDGED, 2, "m7")
    assert done.end_time > 0


async def test_what_was_acknowledged_stays_so(database: Database) -> None:
    made = await enqueued(database, a_delivery())
    done = await told(database, made, DeliveryState.ACKNOWLEDGED)
    assert await told(database, made, DeliveryState.FAILED, error_code="late") == done
    for verb in (retry_delivery, discard_delivery):
        with pytest.raises(WrongState):
            await database.writer.run(partial(verb, workspace_id=WORKSPACE, delivery_id=made.delivery_id))


async def test_a_late_acknowledgement_of_an_expired_delivery_counts(database: Database) -> None:
    made = await enqueued(database, replace(a_delivery(), expire_time=1))
    kept = await enqueued(database, a_delivery())
    assert await StoredDeliveries(database.reader).too_old(10) == [(WORKSPACE, made.delivery_id)]

    async def expire(delivery: Delivery) -> DeliveryState:
        return (await database.writer.run(lambda tx: expire_delivery(tx, WORKSPACE, delivery.delivery_id))).state

    assert await expire(made) is DeliveryState.EXPIRED
    assert await expire(kept) is DeliveryState.PENDING
    assert (await told(database, made, DeliveryState.ACKNOWLEDGED)).state is DeliveryState.ACKNOWLEDGED
    assert await expire(made) is DeliveryState.ACKNOWLEDGED


async def test_a_dead_delivery_can_be_sent_again_under_its_id_or_given_up(database: Database) -> None:
    made = await enqueued(database, a_delivery())
    await told(database, made, DeliveryState.DEAD_LETTER, error_message="tried too often")
    again = await database.writer.run(lambda tx: retry_delivery(tx, WORKSPACE, made.delivery_id))
    assert (again.state, again.delivery_id) == (DeliveryState.PENDING, made.delivery_id)
    gone = await database.writer.run(lambda tx: discard_delivery(tx, WORKSPACE, made.delivery_id))
    assert gone.state is DeliveryState.DISCARDED
    assert await StoredDeliveries(database.reader).pending_count(WEB_CHAT, 9) == 0


async def test_pages_filter_by_state_conversation_and_run(database: Database) -> None:
    made = [await enqueued(database, replace(a_delivery(f"cnv_{n % 2}"), run_id=f"run_{n}")) for n in range(4)]
    await told(database, made[0], DeliveryState.FAILED)
    deliveries = StoredDeliveries(database.reader)

    async def ids(which: DeliveryFilter) -> list[str]:
        return [delivery.delivery_id for delivery in await deliveries.page(WORKSPACE, which, FIRST_PAGE, 9)]

    assert await ids(DeliveryFilter()) == [delivery.delivery_id for delivery in reversed(made)]
    assert await ids(DeliveryFilter(states=(DeliveryState.FAILED,))) == [made[0].delivery_id]
    assert await ids(DeliveryFilter(conversation_id="cnv_1")) == [made[3].delivery_id, made[1].delivery_id]
    assert await ids(DeliveryFilter(run_id="run_2")) == [made[2].delivery_id]
    assert [delivery.delivery_id for delivery in await deliveries.of_run(WORKSPACE, "run_3", 9)] == [
        made[3].delivery_id
    ]
    assert await deliveries.of_run(WORKSPACE, "", 9) == []


async def test_what_is_not_there_is_not_found(database: Database) -> None:
    with pytest.raises(NotFound):
        await StoredDeliveries(database.reader).delivery(WORKSPACE, "dlv_0")
    with pytest.raises(NotFound):
        await database.writer.run(lambda tx: record_outcome(tx, WORKSPACE, "dlv_0", Outcome(state=DeliveryState.SENT)))
    with pytest.raises(NotFound):
        await database.writer.run(lambda tx: retry_delivery(tx, WORKSPACE, "dlv_0"))


async def test_what_was_sent_and_never_confirmed_is_unknown_after_its_time(database: Database) -> None:
    waits, overdue = await enqueued(database, a_delivery("cnv_1")), await enqueued(database, a_delivery("cnv_2"))
    await told(database, waits, DeliveryState.SENT, next_attempt_time=2**60)
    await told(database, overdue, DeliveryState.SENT, next_attempt_time=1)
    doubted = await database.writer.run(lambda tx: doubt_sent(tx, 10))
    assert [one.delivery_id for one in doubted] == [overdue.delivery_id]
    assert await database.writer.run(lambda tx: doubt_sent(tx, 10)) == []
    deliveries = StoredDeliveries(database.reader)
    found = [await deliveries.delivery(WORKSPACE, one.delivery_id) for one in (waits, overdue)]
    assert [one.state for one in found] == [DeliveryState.SENT, DeliveryState.UNKNOWN]
    assert found[1].error_code == "NOT_CONFIRMED" and found[1].attempts == 1
    # A confirmation counts however late it comes.
    assert (await told(database, overdue, DeliveryState.ACKNOWLEDGED)).state is DeliveryState.ACKNOWLEDGED
