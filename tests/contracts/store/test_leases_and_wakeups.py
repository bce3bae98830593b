"""Leases have one holder and a token that grows; a wake-up reaches everybody who waits, and one that is lost does no
harm."""

import asyncio

import pytest

from portway.rpc.errors import InvalidInput, NotFound, Stale
from portway.server.leases.store import StoredLeases
from portway.server.leases.types import Lease
from portway.server.leases.wakeups import open_wakeups
from portway.server.storage_engine.clock import SECOND
from portway.server.storage_engine.database import Database, DatabaseOptions
from tests.postgres import PostgresServer

MINUTE = 60 * SECOND
LONG = 60.0


@pytest.fixture
def leases(database: Database) -> StoredLeases:
    return StoredLeases(database.writer, database.reader)


async def test_a_lease_has_one_holder(leases: StoredLeases) -> None:
    taking = (leases.acquire("w", "sweep", f"host {number}", MINUTE) for number in range(20))
    answers = await asyncio.gather(*taking, return_exceptions=True)
    (held,) = [answer for answer in answers if isinstance(answer, Lease)]
    assert sum(isinstance(answer, Stale) for answer in answers) == 19
    assert await leases.held("w", "sweep") == held
    with pytest.raises(NotFound):
        await leases.held("other", "sweep")


async def test_a_lease_that_was_lost_cannot_be_renewed_and_its_token_has_grown(leases: StoredLeases) -> None:
    old = await leases.acquire("w", "sweep", "old", 0)
    with pytest.raises(NotFound):
        await leases.held("w", "sweep")
    new = await leases.acquire("w", "sweep", "new", MINUTE)
    assert new.fencing_token == old.fencing_token + 1
    with pytest.raises(Stale):
        await leases.renew(old, MINUTE)
    await leases.release(old)
    renewed = await leases.renew(new, 2 * MINUTE)
    assert await leases.held("w", "sweep") == renewed
    await leases.release(renewed)
    assert (await leases.acquire("w", "sweep", "next", MINUTE)).fencing_token == new.fencing_token + 1


async def test_a_wake_up_reaches_everybody_who_waits_on_its_topic(database: Database) -> None:
    async with open_wakeups(database) as wakeups:
        with (
            wakeups.subscription("runs") as one,
            wakeups.subscription("runs") as two,
            wakeups.subscription("other") as other,
        ):
            # What a subscription may have missed before it could hear wakes it once.
            await asyncio.gather(*(each.wait(0.2) for each in (one, two, other)))
            await wakeups.wake("runs")
            assert all(await asyncio.gather(one.wait(LONG), two.wait(LONG)))
            assert not await one.wait(0.01)
            assert not await other.wait(0.01)
        await wakeups.wake("runs")


async def test_a_wake_up_before_the_wait_is_not_lost(database: Database) -> None:
    async with open_wakeups(database) as wakeups:
        with wakeups.subscription("runs") as waiting:
            await wakeups.wake("runs")
            assert await waiting.wait(LONG)


async def test_a_topic_is_short(database: Database) -> None:
    async with open_wakeups(database) as wakeups:
        for topic in ("", "x" * 1001):
            with pytest.raises(InvalidInput):
                await wakeups.wake(topic)


@pytest.mark.parametrize("options", ["postgresql"], indirect=True)
async def test_another_process_is_heard_also_after_its_connection_was_ended(
    database: Database, options: DatabaseOptions, postgres: PostgresServer, postgres_database: str
) -> None:
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'portway listener'"
    async with open_wakeups(database) as wakeups:
        with wakeups.subscription("runs") as waiting:
            for _ in range(3):
                # The listener is there: it says so by waking everybody once.
                assert await waiting.wait(LONG)
                postgres.run("SELECT pg_notify('portway', 'runs')", postgres_database)
                assert await waiting.wait(LONG)
                assert len(postgres.run(end, postgres_database)) == 1
