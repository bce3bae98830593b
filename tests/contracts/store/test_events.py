"""The event log: exactly once, in order, told apart by workspace."""

import asyncio
from functools import partial

import pytest

from portway.rpc.errors import Conflict, NotFound, Reason
from portway.server.events.store import NEWEST, StoredEventLog, append_event, find_duplicate, set_outcome
from portway.server.events.types import Accepted, EventFilter, EventOutcome, NewEvent
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.transaction import Transaction
from tests.contracts.store.given import WORKSPACE, an_event


def accept(tx: Transaction, event: NewEvent) -> Accepted:
    return find_duplicate(tx, event) or append_event(tx, event)


async def test_an_accepted_event_is_read_back_whole(database: Database) -> None:
    event = an_event(body="你好".encode())
    accepted = await database.writer.run(lambda tx: accept(tx, event))
    found = await StoredEventLog(database.reader).event(WORKSPACE, event.event_id)
    assert (found.payload, found.dedupe_key, found.sequence) == (event.payload, event.dedupe_key, accepted.sequence)
    assert found.outcome is EventOutcome.RUN
    assert found.accept_time > 0


async def test_the_same_key_and_body_answers_the_first_event(database: Database) -> None:
    first = await database.writer.run(lambda tx: accept(tx, an_event("k")))
    again = await database.writer.run(lambda tx: accept(tx, an_event("k")))
    assert again.duplicate and not first.duplicate
    assert (again.event_id, again.sequence, again.outcome) == (first.event_id, first.sequence, first.outcome)


async def test_the_same_key_with_another_body_is_refused_and_changes_nothing(database: Database) -> None:
    await database.writer.run(lambda tx: accept(tx, an_event("k", b"one")))
    with pytest.raises(Conflict) as refused:
        await database.writer.run(lambda tx: accept(tx, an_event("k", b"two")))
    assert refused.value.reason == Reason.SAME_KEY_OTHER_BODY
    assert await StoredEventLog(database.reader).latest_sequence(WORKSPACE) == 1


async def test_of_many_submits_of_one_key_at_once_one_is_accepted(database: Database) -> None:
    events = [an_event("k") for _ in range(100)]
    answers = await asyncio.gather(*(database.writer.run(partial(accept, event=event)) for event in events))
    assert sum(not answer.duplicate for answer in answers) == 1
    assert len({answer.event_id for answer in answers}) == 1


async def test_keys_of_different_workspaces_are_different_keys(database: Database) -> None:
    first = await database.writer.run(lambda tx: accept(tx, an_event("k")))
    other = await database.writer.run(lambda tx: accept(tx, an_event("k", workspace_id="other")))
    assert not other.duplicate
    log = StoredEventLog(database.reader)
    with pytest.raises(NotFound):
        await log.event("other", first.event_id)
    assert other.sequence == 1


async def test_sequences_have_no_gaps_when_some_submits_are_refused(database: Database) -> None:
    async def submit(number: int) -> None:
        event = an_event(f"key {number % 7}", f"body {number % 11}".encode())
        try:
            await database.writer.run(lambda tx: accept(tx, event))
        except Conflict:
            pass

    await asyncio.gather(*(submit(number) for number in range(200)))
    events = await StoredEventLog(database.reader).follow(WORKSPACE, 0, 1000)
    assert [event.sequence for event in events] == list(range(1, 8))


async def test_pages_go_from_the_newest_and_filter(database: Database) -> None:
    for _ in range(5):
        await database.writer.run(lambda tx: accept(tx, an_event()))
    log = StoredEventLog(database.reader)
    first = await log.page(WORKSPACE, EventFilter(), NEWEST, 3)
    second = await log.page(WORKSPACE, EventFilter(), first[-1].sequence, 3)
    assert [event.sequence for event in first + second] == [5, 4, 3, 2, 1]
    assert await log.page(WORKSPACE, EventFilter(types=("group.member_joined",)), NEWEST, 3) == []
    assert len(await log.page(WORKSPACE, EventFilter(types=("message.received", "x.y")), NEWEST, 9)) == 5
    assert await log.page(WORKSPACE, EventFilter(conversation_id="cnv_other"), NEWEST, 3) == []


async def test_the_outcome_can_be_told_later(database: Database) -> None:
    event = an_event()
    await database.writer.run(lambda tx: accept(tx, event))
    await database.writer.run(lambda tx: set_outcome(tx, WORKSPACE, event.event_id, EventOutcome.REFUSED, "guard"))
    found = await StoredEventLog(database.reader).event(WORKSPACE, event.event_id)
    assert (found.outcome, found.outcome_reason) == (EventOutcome.REFUSED, "guard")
    with pytest.raises(NotFound):
        await database.writer.run(lambda tx: set_outcome(tx, WORKSPACE, "evt_0", EventOutcome.RUN))
