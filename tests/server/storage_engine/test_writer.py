"""The writer: acknowledged after the commit, in order, in groups, each unit for itself."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial

import pytest

from portway.rpc.errors import LimitExceeded, NotFound, PortwayError, Reason, Unavailable
from portway.server.storage_engine.clock import ForwardClock
from portway.server.storage_engine.database import Database, DatabaseOptions, open_database
from portway.server.storage_engine.dialect import Dialect
from portway.server.storage_engine.faults import StorageFault
from portway.server.storage_engine.sqlite import SqliteTransaction, connect_writer
from portway.server.storage_engine.transaction import StatementError, Transaction
from portway.server.storage_engine.writer import Writer


def add(tx: Transaction, note_id: str, text: str = "text") -> str:
    tx.insert_many("notes", [{"id": note_id, "text": text}])
    return note_id


def add_and_fail(tx: Transaction, note_id: str) -> None:
    add(tx, note_id)
    raise NotFound.of("thing", note_id)


async def notes(database: Database) -> list[str]:
    rows = await database.reader.run(lambda tx: tx.all("SELECT id FROM notes ORDER BY number"))
    return [row[0] for row in rows]


@contextmanager
def held(database: Database) -> Iterator[None]:
    """Keeps the writer busy, so that everything submitted meanwhile becomes one group."""
    begun, go_on = threading.Event(), threading.Event()

    def unit(tx: Transaction) -> None:
        begun.set()
        go_on.wait()

    future = database.writer.submit(unit)
    begun.wait()
    try:
        yield
    finally:
        go_on.set()
        future.add_done_callback(lambda done: done.exception())


async def test_a_units_answer_comes_after_its_commit(database: Database) -> None:
    for number in range(50):
        assert await database.writer.run(partial(add, note_id=f"n{number}")) == f"n{number}"
        assert f"n{number}" in await notes(database)


async def test_units_run_in_the_order_in_which_they_were_submitted(database: Database) -> None:
    with held(database):
        futures = [database.writer.submit(partial(add, note_id=f"n{number}")) for number in range(200)]
    await asyncio.gather(*futures)
    assert await notes(database) == [f"n{number}" for number in range(200)]


async def test_units_that_wait_together_share_a_commit(database: Database) -> None:
    before = database.writer.counters.commits
    with held(database):
        futures = [database.writer.submit(partial(add, note_id=f"n{number}")) for number in range(128)]
    await asyncio.gather(*futures)
    # One for the unit that held the writer, then groups of 64.
    assert database.writer.counters.commits - before == 3


async def test_a_unit_that_fails_after_it_wrote_takes_nothing_of_the_others_with_it(database: Database) -> None:
    with held(database):
        futures: list[asyncio.Future[object]] = []
        for number in range(30):
            unit = add_and_fail if number % 10 == 3 else add
            futures.append(database.writer.submit(partial(unit, note_id=f"n{number}")))
    answers = await asyncio.gather(*futures, return_exceptions=True)
    failed = [number for number, answer in enumerate(answers) if isinstance(answer, NotFound)]
    assert failed == [3, 13, 23]
    assert await notes(database) == [f"n{number}" for number in range(30) if number not in failed]
    assert database.writer.counters.retried_groups == 1


async def test_a_unit_that_fails_before_it_wrote_costs_the_others_nothing(database: Database) -> None:
    def refuse(tx: Transaction) -> None:
        if tx.one("SELECT 1 FROM notes WHERE id = :id", {"id": "missing"}) is None:
            raise NotFound.of("note", "missing")

    with held(database):
        first = database.writer.submit(partial(add, note_id="a"))
        refused = database.writer.submit(refuse)
        last = database.writer.submit(partial(add, note_id="b"))
    await asyncio.gather(first, last)
    with pytest.raises(NotFound):
        await refused
    assert await notes(database) == ["a", "b"]
    assert database.writer.counters.retried_groups == 0


async def test_a_later_unit_of_a_group_sees_what_an_earlier_one_wrote(database: Database) -> None:
    with held(database):
        database.writer.submit(partial(add, note_id="a"))
        seen = database.writer.submit(lambda tx: tx.one("SELECT text FROM notes WHERE id = 'a'"))
    assert await seen == ("text",)


async def test_a_broken_constraint_is_an_error_of_that_unit_alone(database: Database) -> None:
    with held(database):
        first = database.writer.submit(partial(add, note_id="same"))
        second = database.writer.submit(partial(add, note_id="same", text="secret text"))
        third = database.writer.submit(partial(add, note_id="other"))
    assert await first == "same"
    assert await third == "other"
    with pytest.raises(StatementError) as refused:
        await second
    assert "secret text" not in str(refused.value)
    assert await notes(database) == ["same", "other"]


async def test_a_unit_may_catch_a_broken_constraint_and_go_on(database: Database) -> None:
    def unit(tx: Transaction) -> str:
        add(tx, "same")
        with pytest.raises(StatementError):
            add(tx, "same")
        return add(tx, "other")

    assert await database.writer.run(unit) == "other"
    assert await notes(database) == ["same", "other"]


async def test_many_rows_are_inserted_or_none(database: Database) -> None:
    rows = [{"id": f"n{number % 9}", "text": "x"} for number in range(10)]
    with pytest.raises(StatementError):
        await database.writer.run(lambda tx: tx.insert_many("notes", rows))
    assert await notes(database) == []
    await database.writer.run(lambda tx: tx.insert_many("notes", rows[:9]))
    assert len(await notes(database)) == 9


async def test_time_stands_still_in_a_unit_and_never_goes_back(database: Database) -> None:
    def twice(tx: Transaction) -> tuple[int, int]:
        return tx.now, tx.now

    times = [await database.writer.run(twice) for _ in range(20)]
    assert all(first == second for first, second in times)
    assert times == sorted(times)


async def test_a_wait_that_is_cancelled_before_its_unit_began_takes_it_back(database: Database) -> None:
    with held(database):
        cancelled = asyncio.ensure_future(database.writer.run(partial(add, note_id="taken back")))
        kept = asyncio.ensure_future(database.writer.run(partial(add, note_id="kept")))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
    await kept
    assert await notes(database) == ["kept"]


async def test_a_wait_that_is_cancelled_after_its_unit_began_does_not_undo_it(database: Database) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def unit(tx: Transaction) -> None:
        begun.set()
        go_on.wait()
        add(tx, "begun")

    waiting = asyncio.ensure_future(database.writer.run(unit))
    await asyncio.to_thread(begun.wait)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go_on.set()
    await database.writer.run(lambda tx: None)
    assert await notes(database) == ["begun"]


async def test_more_units_than_the_queue_holds_are_refused_at_once(options: DatabaseOptions) -> None:
    async with open_database(replace(options, queue_limit=10)) as database:
        with held(database):
            futures = [database.writer.submit(lambda tx: None) for _ in range(10)]
            with pytest.raises(LimitExceeded) as refused:
                database.writer.submit(lambda tx: None)
        await asyncio.gather(*futures)
        assert (refused.value.reason, refused.value.retry_after) == (Reason.OVERLOADED, 0.5)
        await database.writer.run(lambda tx: None)


async def test_what_was_queued_is_committed_when_the_writer_closes(options: DatabaseOptions) -> None:
    async with open_database(options) as database:
        writer = database.writer
        with held(database):
            futures = [
                writer.submit(lambda tx: tx.execute("INSERT INTO workspaces (workspace_id) SELECT 'w' WHERE true"))
            ]
    assert await asyncio.gather(*futures) == [1]
    with pytest.raises(Unavailable) as refused:
        writer.submit(lambda tx: None)
    assert refused.value.reason == Reason.SHUTTING_DOWN


async def test_it_counts_units_commits_and_statements(database: Database) -> None:
    before = replace(database.writer.counters)
    await database.writer.run(partial(add, note_id="a"))
    with pytest.raises(NotFound):
        await database.writer.run(partial(add_and_fail, note_id="b"))
    after = database.writer.counters
    assert (after.units - before.units, after.failed_units - before.failed_units) == (2, 1)
    # The second unit ran twice: rolled back with its group, then alone.
    assert (after.commits - before.commits, after.statements - before.statements) == (2, 3)


async def test_acknowledged_means_on_disk(database: Database) -> None:
    wanted: dict[Dialect, dict[str, str | int]] = {
        Dialect.SQLITE: {"PRAGMA journal_mode": "wal", "PRAGMA synchronous": 2},
        Dialect.POSTGRESQL: {"SHOW synchronous_commit": "on"},
    }
    for sql, value in wanted[database.dialect].items():
        assert await database.writer.run(lambda tx, s=sql: tx.one(s)) == (value,)  # type: ignore[misc]


async def test_a_database_locked_by_another_program_is_told_and_got_over(sqlite_options: DatabaseOptions) -> None:
    async with open_database(replace(sqlite_options, busy_seconds=0.05)) as database:
        with closing(sqlite3.connect(database.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable) as refused:
                await database.writer.run(lambda tx: None)
            other.execute("ROLLBACK")
        assert "locked" in refused.value.message
        assert refused.value.retry_after
        await database.writer.run(lambda tx: None)


class _FailingDisk(SqliteTransaction):
    """A disk whose fsync fails from some moment on."""

    failing = False

    def commit(self) -> None:
        if self.failing:
            raise StorageFault(Unavailable("the disk failed"), lasting=True)
        super().commit()


async def test_after_a_failed_fsync_nothing_is_acknowledged_any_more(sqlite_options: DatabaseOptions) -> None:
    async with open_database(sqlite_options) as database:
        disk = _FailingDisk(connect_writer(database.path), ForwardClock())
        writer = Writer(disk)
        await writer.run(lambda tx: None)
        disk.failing = True
        with pytest.raises(PortwayError, match="the disk failed"):
            await writer.run(lambda tx: None)
        disk.failing = False
        with pytest.raises(PortwayError, match="the disk failed"):
            await writer.broken()
        with pytest.raises(PortwayError, match="the disk failed"):
            await writer.run(lambda tx: None)
        writer.close()
