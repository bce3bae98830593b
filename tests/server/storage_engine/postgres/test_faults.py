"""The connection is cut, the server is killed, sessions are ended: what was acknowledged is there exactly once, and the
host goes on by itself."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import psycopg
import pytest

from portway.rpc.errors import LimitExceeded, PortwayError, Reason, Unavailable
from portway.server.storage_engine.database import Database, DatabaseOptions, open_database
from portway.server.storage_engine.postgres.faults import fault_of
from portway.server.storage_engine.sequences import allocate
from portway.server.storage_engine.transaction import StatementError, Transaction
from tests.fakes.cutting_proxy import CuttingProxy, cutting_proxy
from tests.postgres import PostgresServer, postgres_server

HALVES = "CREATE TABLE halves (number BIGINT, half BIGINT, sequence BIGINT, PRIMARY KEY (number, half))"


def both(tx: Transaction, number: int) -> int:
    """Two rows with a number of a sequence: all or nothing, and once."""
    sequence = allocate(tx, "w", "halves")
    tx.insert_many("halves", [{"number": number, "half": half, "sequence": sequence} for half in (0, 1)])
    return number


async def whole(database: Database) -> set[int]:
    """The numbers of which both halves are there; nothing is torn, and the sequence has no gap."""
    rows = await database.reader.run(
        lambda tx: tx.all("SELECT number, COUNT(*), COUNT(DISTINCT sequence) FROM halves GROUP BY number")
    )
    assert all(tuple(row[1:]) == (2, 1) for row in rows)
    last = await database.reader.run(lambda tx: tx.one("SELECT COALESCE(MAX(sequence), 0) FROM halves"))
    assert last == (len(rows),)
    return {row[0] for row in rows}


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[CuttingProxy]:
    with cutting_proxy(postgres.port) as running:
        yield running


@pytest.fixture
def far(postgres: PostgresServer, postgres_database: str, proxy: CuttingProxy, tmp_path: Path) -> DatabaseOptions:
    """Options for the same database behind a network that can be cut."""
    url = postgres.tcp_url(postgres_database, port=proxy.port) + "?sslmode=disable"
    return DatabaseOptions(url=url, folder=tmp_path / "data")


async def prepare(database: Database) -> None:
    await database.writer.run(lambda tx: tx.execute(HALVES))


@pytest.mark.parametrize("pass_it_on", [False, True], ids=["before the server has it", "before the answer comes"])
async def test_a_connection_cut_at_a_commit_neither_loses_nor_repeats_it(
    far: DatabaseOptions, proxy: CuttingProxy, pass_it_on: bool
) -> None:
    async with open_database(far) as database:
        await prepare(database)
        for number in range(10):
            proxy.cut_at(b"COMMIT", pass_it_on=pass_it_on)
            assert await database.writer.run(partial(both, number=number)) == number
        assert proxy.cuts == 10
        assert await whole(database) == set(range(10))


async def test_a_connection_cut_in_the_middle_of_units_is_made_anew(far: DatabaseOptions, proxy: CuttingProxy) -> None:
    async with open_database(far) as database:
        await prepare(database)
        futures: list[asyncio.Future[int]] = []
        for number in range(600):
            futures.append(database.writer.submit(partial(both, number=number)))
            if number % 100 == 50:
                await futures[number - 20]
                proxy.cut()
        assert await asyncio.gather(*futures) == list(range(600))
        assert await whole(database) == set(range(600))
        assert database.writer.counters.retried_groups > 0


async def test_reads_go_on_after_a_cut(far: DatabaseOptions, proxy: CuttingProxy) -> None:
    async with open_database(far) as database:
        for _ in range(10):
            proxy.cut()
            answers = await asyncio.gather(*(database.reader.run(lambda tx: tx.one("SELECT 1")) for _ in range(20)))
            assert answers == [(1,)] * 20


async def test_a_server_that_stays_away_refuses_work_and_serves_again_when_it_is_back(
    far: DatabaseOptions, proxy: CuttingProxy
) -> None:
    async with open_database(replace(far, patience=0.3)) as database:
        await prepare(database)
        proxy.cut(refuse=True)
        with pytest.raises(Unavailable, match="cannot be reached") as refused:
            await database.writer.run(partial(both, number=1))
        assert refused.value.retry_after
        with pytest.raises(Unavailable, match="cannot be reached"):
            await database.reader.run(lambda tx: tx.one("SELECT 1"))
        proxy.mend()
        assert await database.writer.run(partial(both, number=2)) == 2
        assert await whole(database) == {2}


async def test_a_host_that_stops_does_not_wait_for_a_server_that_is_away(
    far: DatabaseOptions, proxy: CuttingProxy
) -> None:
    async with asyncio.timeout(60), open_database(far) as database:
        await prepare(database)
        proxy.cut(refuse=True)
        refused = database.writer.submit(partial(both, number=1))
    with pytest.raises(Unavailable):
        await refused


async def test_a_deadlock_with_another_session_is_got_over(
    database: Database, postgres: PostgresServer, postgres_database: str
) -> None:
    await database.writer.run(lambda tx: tx.execute("CREATE TABLE locks (id BIGINT PRIMARY KEY, n BIGINT)"))
    await database.writer.run(lambda tx: tx.execute("INSERT INTO locks VALUES (1, 0), (2, 0)"))
    runs = []
    other = psycopg.connect(postgres.url(postgres_database))
    one_locked, go_on = threading.Event(), threading.Event()

    def unit(tx: Transaction) -> None:
        runs.append(tx.execute("UPDATE locks SET n = n + 1 WHERE id = 1"))
        one_locked.set()
        go_on.wait()
        tx.execute("UPDATE locks SET n = n + 1 WHERE id = 2")

    def get_in_the_way() -> None:
        # The server ends whoever looks first: this session waits long before it does.
        other.execute("SET deadlock_timeout = '60s'")
        other.execute("UPDATE locks SET n = n + 1 WHERE id = 2")
        go_on.set()
        other.execute("UPDATE locks SET n = n + 1 WHERE id = 1")
        other.commit()
        other.close()

    done = database.writer.submit(unit)
    await asyncio.to_thread(one_locked.wait)
    await asyncio.to_thread(get_in_the_way)
    await done
    assert len(runs) == 2
    assert await database.reader.run(lambda tx: tx.all("SELECT n FROM locks")) == [(2,), (2,)]


async def test_the_server_killed_under_load_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    with postgres_server(durable=True) as server:
        name = server.new_database()
        async with open_database(DatabaseOptions(url=server.url(name), folder=tmp_path)) as database:
            await prepare(database)
            acknowledged: set[int] = set()
            stop = asyncio.Event()

            async def write(first: int) -> None:
                number = first
                while not stop.is_set():
                    acknowledged.add(await database.writer.run(partial(both, number=number)))
                    number += 8

            writing = [asyncio.ensure_future(write(first)) for first in range(8)]

            async def more() -> None:
                enough = len(acknowledged) + 200
                while len(acknowledged) < enough:  # noqa: ASYNC110 - many tasks add to it
                    await asyncio.sleep(0.001)

            for _ in range(3):
                await more()
                await asyncio.to_thread(server.kill)
                # In the test's own thread: the server lives as long as the thread that started it.
                server.start()
            await more()
            stop.set()
            # Nobody was refused: who waited, waited until the server was back.
            await asyncio.gather(*writing)
            assert await whole(database) == acknowledged
            assert len(acknowledged) > 800


async def test_a_full_disk_of_the_server_and_a_right_that_is_missing_are_told(
    options: DatabaseOptions, postgres: PostgresServer, postgres_database: str
) -> None:
    full = fault_of(psycopg.errors.DiskFull("could not extend file"), "postgresql://x")
    assert full is not None and isinstance(full.problem, LimitExceeded) and not full.lasting
    assert full.problem.reason == Reason.DISK_FULL
    broken = fault_of(psycopg.errors.DataCorrupted("bad page"), "postgresql://x")
    assert broken is not None and broken.lasting
    async with open_database(options) as database:
        await database.writer.run(lambda tx: tx.now)
        postgres.run("ALTER DATABASE " + postgres_database + " SET default_transaction_read_only = on")
        postgres.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'portway%'",
            postgres_database,
        )
        writing = asyncio.ensure_future(database.writer.run(lambda tx: allocate(tx, "w", "s")))
        await asyncio.wait([writing], timeout=0.5)
        # A standby that is promoted, or a switch that is set back: the unit that waited goes through.
        assert not writing.done()
        postgres.run("ALTER DATABASE " + postgres_database + " SET default_transaction_read_only = off")
        assert await writing == 1


async def test_what_the_server_says_of_a_constraint_holds_no_value(database: Database) -> None:
    insert = "INSERT INTO workspaces (workspace_id) VALUES (:id)"
    await database.writer.run(lambda tx: tx.execute(insert, {"id": "very-secret"}))
    with pytest.raises(StatementError, match="workspaces_pkey") as refused:
        await database.writer.run(lambda tx: tx.execute(insert, {"id": "very-secret"}))
    assert "very-secret" not in str(refused.value)
    with pytest.raises(StatementError) as wrong:
        await database.writer.run(lambda tx: tx.execute("SELECT CAST(:v AS BIGINT)", {"v": "very-secret"}))
    assert "very-secret" not in str(wrong.value)


async def test_ended_sessions_are_made_anew(
    database: Database, postgres: PostgresServer, postgres_database: str
) -> None:
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'portway%'"
    # Connections are made when they are needed first.
    await database.reader.run(lambda tx: tx.now)
    await database.writer.run(lambda tx: tx.now)
    for number in range(1, 6):
        assert len(postgres.run(end, postgres_database)) >= 2
        assert await database.writer.run(lambda tx: allocate(tx, "w", "s")) == number
        assert await database.reader.run(lambda tx: tx.one("SELECT value FROM sequences")) == (number,)


async def test_more_than_the_queue_is_refused_while_the_server_is_away(
    far: DatabaseOptions, proxy: CuttingProxy
) -> None:
    async with open_database(replace(far, queue_limit=50, group_limit=10)) as database:
        await prepare(database)
        proxy.cut(refuse=True)
        futures: list[asyncio.Future[int]] = []
        with pytest.raises(PortwayError) as refused:
            for number in range(200):
                futures.append(database.writer.submit(partial(both, number=number)))
        assert refused.value.reason == Reason.OVERLOADED
        proxy.mend()
        assert await asyncio.gather(*futures) == list(range(len(futures)))
        assert await whole(database) == set(range(len(futures)))
