"""A transaction over one connection to PostgreSQL."""

from collections.abc import Sequence
from typing import Any

import psycopg

from portway.server.storage_engine.clock import ForwardClock, Micros
from portway.server.storage_engine.dialect import Dialect
from portway.server.storage_engine.faults import StorageFault
from portway.server.storage_engine.postgres.faults import READ_ONLY, fault_of, statement_error
from portway.server.storage_engine.postgres.link import Link
from portway.server.storage_engine.postgres.translate import translated
from portway.server.storage_engine.transaction import NO_PARAMS, Params, Row

CLOCK = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
"""The database's clock in microseconds: one clock for every host on it."""

BEGIN_READING = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT {CLOCK}"


class PostgresTransaction:
    """Begun, used and ended again and again by the thread that owns it. This one reads; `lease.py` has the one that
    writes."""

    dialect = Dialect.POSTGRESQL
    reads_only = True
    beat_seconds: float | None = None

    def __init__(self, link: Link, clock: ForwardClock) -> None:
        self._link = link
        self._clock = clock
        self._cursor: psycopg.Cursor[Row] | None = None
        self._now: Micros = 0
        self._begun = False
        self._careful = False
        self._inserts: dict[tuple[str, tuple[str, ...]], str] = {}
        self._changes = 0
        self.fault: StorageFault | None = None
        self.statements = 0
        self.spoiled = False

    @property
    def now(self) -> Micros:
        return self._now

    @property
    def changes(self) -> int:
        return self._changes

    def begin(self, careful: bool = False) -> None:
        self._start(BEGIN_READING, careful)

    def begin_writing(self) -> None:
        """Begin a transaction that may write, beside the writer's: for opening and migrating."""
        self._start(f"BEGIN; SELECT {CLOCK}", careful=False)

    def commit(self) -> None:
        self._begun = False
        self._link.control("COMMIT")

    def rollback(self) -> None:
        if self._begun:
            self._begun = False
            # Where the connection broke, there is nothing left to undo.
            if self._link.connected:
                self._link.control("ROLLBACK")

    def savepoint(self) -> None:
        self._link.control("SAVEPOINT unit")

    def release(self) -> None:
        self._link.control("RELEASE unit")

    def rollback_to_savepoint(self) -> None:
        self._link.control("ROLLBACK TO unit; RELEASE unit")

    def beat(self) -> None:
        """A reader holds nothing that could be taken from it."""

    def close(self) -> None:
        self._link.close()

    def stop_waiting(self) -> None:
        self._link.stop_waiting()

    def one(self, sql: str, params: Params = NO_PARAMS) -> Row | None:
        rows = self.all(sql, params)
        return rows[0] if rows else None

    def all(self, sql: str, params: Params = NO_PARAMS) -> list[Row]:
        cursor = self._run(sql, params)
        return cursor.fetchall() if cursor.description is not None else []

    def execute(self, sql: str, params: Params = NO_PARAMS) -> int:
        return self._run(sql, params).rowcount

    def executemany(self, sql: str, rows: Sequence[Params]) -> int:
        statement, names = translated(sql)
        return self._run_prepared(sql, statement, [[row[name] for name in names] for row in rows], many=True).rowcount

    def insert_many(self, table: str, rows: Sequence[Params]) -> None:
        if not rows:
            return
        columns = tuple(rows[0])
        sql = self._inserts.get((table, columns))
        if sql is None:
            values = ", ".join(f":{column}" for column in columns)
            sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values})"
            self._inserts[table, columns] = sql
        if len(rows) == 1:
            self.execute(sql, rows[0])
        else:
            self.executemany(sql, rows)

    def _start(self, statements: str, careful: bool) -> Row:
        self.fault, self.spoiled = None, False
        self._careful = careful
        answer = self._link.control(statements)
        self._begun = True
        self._cursor = self._link.connection.cursor()
        self._now = self._clock.at_least(int(bytes(answer[-1]))) if answer else self._now
        return answer

    def _run(self, sql: str, params: Params) -> "psycopg.Cursor[Row]":
        statement, names = translated(sql)
        return self._run_prepared(sql, statement, [params[name] for name in names], many=False)

    def _run_prepared(self, sql: str, statement: bytes, params: list[Any], *, many: bool) -> "psycopg.Cursor[Row]":
        # A unit that swallowed a fault must not go on: its transaction is gone.
        if self.fault is not None:
            raise self.fault
        cursor = self._cursor
        if cursor is None:
            raise AssertionError("a statement outside of a transaction")
        self.statements += 1
        if self._careful:
            self._link.control("SAVEPOINT statement")
        try:
            if many:
                cursor.executemany(statement, params)
            else:
                cursor.execute(statement, params)
        except psycopg.Error as error:
            raise self._failed(error, sql) from error
        if self._careful:
            self._link.control("RELEASE statement")
        if not (cursor.statusmessage or "").startswith("SELECT"):
            self._changes += max(cursor.rowcount, 0)
        return cursor

    def _failed(self, error: psycopg.Error, sql: str) -> Exception:
        if self.reads_only and error.sqlstate == READ_ONLY:
            # Not the server is read-only: a query tried to write.
            self.spoiled = True
            return statement_error(error, sql)
        self.fault = fault_of(error, self._link.shown)
        if self.fault is not None:
            if self.fault.again:
                self._link.drop()
            return self.fault
        # The server takes nothing more until something is undone.
        if self._careful:
            self._link.control("ROLLBACK TO statement; RELEASE statement")
        else:
            self.spoiled = True
        return statement_error(error, sql)
