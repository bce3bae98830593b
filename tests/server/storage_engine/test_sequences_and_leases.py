"""Counters without gaps, and leases with one holder."""

import asyncio

import pytest

from portway.rpc.errors import NotFound, Stale
from portway.server.leases.store import acquire_lease, release_lease, renew_lease
from portway.server.leases.types import Lease
from portway.server.storage_engine.clock import SECOND, ForwardClock
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.sequences import allocate, latest
from portway.server.storage_engine.transaction import Transaction


async def test_numbers_have_no_gaps_when_units_fail(database: Database) -> None:
    def unit(tx: Transaction, fail: bool) -> int:
        first = allocate(tx, "w", "s", 3)
        if fail:
            raise NotFound("no")
        return first

    answers = await asyncio.gather(
        *(database.writer.run(lambda tx, f=n % 4 == 0: unit(tx, f)) for n in range(100)),  # type: ignore[misc]
        return_exceptions=True,
    )
    firsts = sorted(answer for answer in answers if isinstance(answer, int))
    assert firsts == list(range(1, 226, 3))
    assert await database.reader.run(lambda tx: latest(tx, "w", "s")) == 225
    assert await database.reader.run(lambda tx: latest(tx, "other", "s")) == 0


async def acquire(database: Database, holder: str, duration: int = 60 * SECOND) -> Lease:
    return await database.writer.run(lambda tx: acquire_lease(tx, "w", "conversation", holder, duration))


async def test_a_lease_has_one_holder(database: Database) -> None:
    answers = await asyncio.gather(*(acquire(database, f"host {n}") for n in range(20)), return_exceptions=True)
    held = [answer for answer in answers if isinstance(answer, Lease)]
    assert len(held) == 1
    assert sum(isinstance(answer, Stale) for answer in answers) == 19


async def test_a_lease_that_changed_hands_is_lost_to_its_old_holder(database: Database) -> None:
    old = await acquire(database, "old", 0)
    new = await acquire(database, "new")
    assert new.fencing_token == old.fencing_token + 1
    with pytest.raises(Stale):
        await database.writer.run(lambda tx: renew_lease(tx, old, SECOND))
    await database.writer.run(lambda tx: release_lease(tx, old))
    renewed = await database.writer.run(lambda tx: renew_lease(tx, new, 90 * SECOND))
    assert (renewed.fencing_token, renewed.expire_time > new.expire_time) == (new.fencing_token, True)
    await database.writer.run(lambda tx: release_lease(tx, new))
    assert (await acquire(database, "next")).fencing_token == new.fencing_token + 1


async def test_a_lease_that_has_expired_cannot_be_renewed(database: Database) -> None:
    lease = await acquire(database, "slow", 0)
    with pytest.raises(Stale):
        await database.writer.run(lambda tx: renew_lease(tx, lease, SECOND))


def test_a_clock_that_is_set_back_stands_still() -> None:
    times = iter([100, 50, 120])
    clock = ForwardClock(lambda: next(times))
    assert [clock.now() for _ in range(3)] == [100, 100, 120]
