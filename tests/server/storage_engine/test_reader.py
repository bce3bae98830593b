"""Reads: fresh, consistent, bounded, and unable to write."""

import asyncio
import threading
from dataclasses import replace
from functools import partial

import pytest

from portway.rpc.errors import LimitExceeded, NotFound, PortwayError, Reason, Unavailable
from portway.server.storage_engine.clock import ForwardClock
from portway.server.storage_engine.database import Database, DatabaseOptions, open_database
from portway.server.storage_engine.faults import StorageFault
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.sqlite import SqliteTransaction, connect_reader
from portway.server.storage_engine.transaction import ReadTransaction, StatementError, Transaction


def add(tx: Transaction, note_id: str) -> None:
    tx.insert_many("notes", [{"id": note_id, "text": ""}])


def count(tx: ReadTransaction) -> int:
    row = tx.one("SELECT COUNT(*) FROM notes")
    return row[0] if row else 0


async def test_a_read_sees_every_commit_acknowledged_before_it(database: Database) -> None:
    async def write_and_read(caller: int) -> None:
        for number in range(20):
            await database.writer.run(partial(add, note_id=f"{caller}/{number}"))
            sql = "SELECT 1 FROM notes WHERE id = :id"
            row = await database.reader.run(lambda tx: tx.one(sql, {"id": f"{caller}/{number}"}))  # noqa: B023
            assert row == (1,)

    await asyncio.gather(*(write_and_read(caller) for caller in range(10)))
    assert await database.reader.run(count) == 200


async def test_one_query_sees_one_moment_while_others_write(database: Database) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def twice(tx: ReadTransaction) -> tuple[int, int]:
        first = count(tx)
        entered.set()
        go_on.wait()
        return first, count(tx)

    reading = asyncio.ensure_future(database.reader.run(twice))
    await asyncio.to_thread(entered.wait)
    await database.writer.run(partial(add, note_id="meanwhile"))
    go_on.set()
    assert await reading == (0, 0)
    assert await database.reader.run(count) == 1


async def test_a_slow_query_does_not_hold_up_others(database: Database) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slow(tx: ReadTransaction) -> int:
        entered.set()
        go_on.wait()
        return count(tx)

    reading = asyncio.ensure_future(database.reader.run(slow))
    await asyncio.to_thread(entered.wait)
    assert await asyncio.gather(*(database.reader.run(count) for _ in range(100))) == [0] * 100
    assert not reading.done()
    go_on.set()
    assert await reading == 0


async def test_a_query_cannot_write(database: Database) -> None:
    for sql in (
        "INSERT INTO notes (id, text) VALUES ('a', 'b')",
        "DROP TABLE notes",
        "ALTER TABLE notes ADD COLUMN a TEXT",
    ):
        with pytest.raises((PortwayError, StatementError), match="read-?only"):
            await database.reader.run(lambda tx, s=sql: tx.all(s))  # type: ignore[misc]
    assert await database.reader.run(count) == 0


async def test_what_a_query_raises_reaches_its_caller_and_nobody_else(database: Database) -> None:
    def refuse(tx: ReadTransaction) -> int:
        raise NotFound.of("note", "x")

    answers = await asyncio.gather(
        *(database.reader.run(refuse if number % 2 else count) for number in range(50)), return_exceptions=True
    )
    assert [isinstance(answer, NotFound) for answer in answers] == [bool(number % 2) for number in range(50)]


async def test_more_queries_than_the_queue_holds_are_refused_at_once(options: DatabaseOptions) -> None:
    async with open_database(replace(options, reader_threads=1, queue_limit=5)) as database:
        entered, go_on = threading.Event(), threading.Event()

        def slow(tx: ReadTransaction) -> None:
            entered.set()
            go_on.wait()

        first = asyncio.ensure_future(database.reader.run(slow))
        await asyncio.to_thread(entered.wait)
        waiting = [asyncio.ensure_future(database.reader.run(lambda tx: tx.now)) for _ in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(LimitExceeded) as refused:
            await database.reader.run(lambda tx: tx.now)
        go_on.set()
        await asyncio.gather(first, *waiting)
    assert refused.value.reason == Reason.OVERLOADED
    with pytest.raises(Unavailable):
        await database.reader.run(lambda tx: tx.now)


async def test_a_look_sees_every_commit_acknowledged_before_it(database: Database) -> None:
    for number in range(20):
        await database.writer.run(partial(add, note_id=str(number)))
        assert await database.reader.look(count) == number + 1


async def test_a_look_cannot_write_and_what_it_raises_reaches_its_caller(database: Database) -> None:
    for sql in ("INSERT INTO notes (id, text) VALUES ('a', 'b')", "DROP TABLE notes"):
        with pytest.raises((PortwayError, StatementError), match="read-?only"):
            await database.reader.look(lambda tx, s=sql: tx.all(s))  # type: ignore[misc]

    def refuse(tx: ReadTransaction) -> int:
        raise NotFound.of("note", "x")

    with pytest.raises(NotFound):
        await database.reader.look(refuse)
    assert await database.reader.look(count) == 0


class OwnConnection(SqliteTransaction):
    """Counts looks; each takes as long as it is told, or finds the file locked."""

    def __init__(self, database: Database, locked: bool = False) -> None:
        super().__init__(connect_reader(database.path), ForwardClock(), reading=True)
        self.locked = locked
        self.looks = 0
        self.time = 0.0
        self.seconds = 0.0

    def begin(self, careful: bool = False) -> None:
        self.looks += 1
        if self.locked:
            raise StorageFault(Unavailable("locked"), lasting=False)
        super().begin(careful)

    def rollback(self) -> None:
        super().rollback()
        self.time += self.seconds

    def reader(self, database: Database) -> Reader:
        """With this as the loop's connection, and one thread."""
        thread = SqliteTransaction(connect_reader(database.path), ForwardClock(), reading=True)
        return Reader([thread], self, clock=lambda: self.time)


async def test_a_look_at_a_locked_file_is_left_to_a_thread_that_can_wait(sqlite_database: Database) -> None:
    own = OwnConnection(sqlite_database, locked=True)
    reader = own.reader(sqlite_database)
    assert await reader.look(count) == 0
    assert own.looks == 1
    reader.close()


async def test_after_a_slow_look_the_threads_read_for_a_while(sqlite_database: Database) -> None:
    own = OwnConnection(sqlite_database)
    reader = own.reader(sqlite_database)
    own.seconds = 0.5
    assert await reader.look(count) == 0
    own.seconds = 0.0
    assert await reader.look(count) == 0
    assert own.looks == 1
    own.time += 2.0
    assert await reader.look(count) == 0
    assert own.looks == 2
    reader.close()
    with pytest.raises(Unavailable):
        await reader.look(count)
