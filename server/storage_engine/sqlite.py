"""SQLite connections, their settings, and a transaction over one of them."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from portway.rpc.errors import LimitExceeded, PortwayError, Reason, Unavailable
from portway.server.storage_engine.clock import ForwardClock, Micros
from portway.server.storage_engine.dialect import Dialect
from portway.server.storage_engine.faults import StorageFault
from portway.server.storage_engine.transaction import NO_PARAMS, Params, Row, StatementError

_STATEMENT_CACHE = 512
# Negative: KiB. Each connection has its own page cache; the operating system's cache does the rest.
_WRITER_CACHE_KIB = -16_384
_READER_CACHE_KIB = -4_096
# A checkpoint costs one fsync of the database file: at 4 KiB a page, one in 16 MiB of log.
_CHECKPOINT_PAGES = 4_096
_LOG_SIZE_LIMIT = 64 * 1024 * 1024

_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def connect_writer(path: Path, busy_seconds: float = 5.0) -> sqlite3.Connection:
    """A connection that may write: WAL, and on disk (fsync) before a commit returns."""
    connection = sqlite3.connect(
        path,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENT_CACHE,
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA cache_size={_WRITER_CACHE_KIB}")
    connection.execute("PRAGMA temp_store=MEMORY")
    # What is erased leaves no bytes behind.
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit={_LOG_SIZE_LIMIT}")
    return connection


def connect_reader(path: Path, busy_seconds: float = 5.0) -> sqlite3.Connection:
    """A connection that cannot write."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENT_CACHE,
    )
    connection.execute("PRAGMA query_only=1")
    connection.execute(f"PRAGMA cache_size={_READER_CACHE_KIB}")
    connection.execute("PRAGMA temp_store=MEMORY")
    return connection


def fault_of(error: sqlite3.Error) -> StorageFault:
    """What a failure of SQLite means to the caller."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code in _FULL:
        problem: PortwayError = LimitExceeded(
            "The disk that holds Portway's data is full; nothing was written. Free space there and try again.",
            reason=Reason.DISK_FULL,
            retry_after=5.0,
        )
        return StorageFault(problem, lasting=False)
    if code & 0xFF in _BUSY:
        problem = Unavailable(
            "Another program holds the database file locked; nothing was written. Close it (for example an open "
            "`sqlite3` shell) and try again.",
            reason=Reason.UNAVAILABLE,
            retry_after=1.0,
        )
        return StorageFault(problem, lasting=False)
    problem = Unavailable(
        f"The database cannot be used ({getattr(error, 'sqlite_errorname', type(error).__name__)}: {error}). Check the "
        "disk that holds Portway's data, then start the host again.",
        reason=Reason.UNAVAILABLE,
    )
    return StorageFault(problem, lasting=True)


def is_damage(error: sqlite3.Error) -> bool:
    """The file itself is wrong: waiting or trying again does not help."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _is_storage_error(error: sqlite3.Error) -> bool:
    """True for failures of disk, file or lock; false for a statement that is wrong or breaks a constraint."""
    if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return False
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return code not in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_RANGE)


class SqliteTransaction:
    """A transaction over one connection, used by one thread and re-used for every group.

    `reading`: the connection cannot write, and its transactions begin without a lock.
    """

    dialect = Dialect.SQLITE
    beat_seconds = None
    # A statement that fails is undone alone.
    spoiled = False

    def __init__(self, connection: sqlite3.Connection, clock: ForwardClock, *, reading: bool = False) -> None:
        self._begin = "BEGIN DEFERRED" if reading else "BEGIN IMMEDIATE"
        self._connection = connection
        self._cursor = connection.cursor()
        self._clock = clock
        self._now: Micros = 0
        self._inserts: dict[tuple[str, tuple[str, ...]], str] = {}
        self.fault: StorageFault | None = None
        self.statements = 0

    @property
    def now(self) -> Micros:
        return self._now

    @property
    def changes(self) -> int:
        """Rows changed since the connection was opened."""
        return self._connection.total_changes

    def begin(self, careful: bool = False) -> None:
        self.fault = None
        self._now = self._clock.now()
        self._control(self._begin)

    def commit(self) -> None:
        self._control("COMMIT")

    def rollback(self) -> None:
        # After a full disk SQLite may have rolled back by itself.
        if self._connection.in_transaction:
            self._control("ROLLBACK")

    def savepoint(self) -> None:
        self._control("SAVEPOINT unit")

    def release(self) -> None:
        self._control("RELEASE unit")

    def rollback_to_savepoint(self) -> None:
        self._control("ROLLBACK TO unit")
        self._control("RELEASE unit")

    def beat(self) -> None:
        """The kernel's lock on the folder says that the host lives."""

    def stop_waiting(self) -> None:
        """A lock is waited for briefly anyway."""

    def close(self) -> None:
        self._connection.close()

    def one(self, sql: str, params: Params = NO_PARAMS) -> Row | None:
        rows = self.all(sql, params)
        return rows[0] if rows else None

    def all(self, sql: str, params: Params = NO_PARAMS) -> list[Row]:
        self._usable()
        try:
            return self._cursor.execute(sql, params).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error, sql) from error

    def execute(self, sql: str, params: Params = NO_PARAMS) -> int:
        self._usable()
        try:
            return self._cursor.execute(sql, params).rowcount
        except sqlite3.Error as error:
            raise self._failed(error, sql) from error

    def executemany(self, sql: str, rows: Sequence[Params]) -> int:
        self._usable()
        try:
            return self._cursor.executemany(sql, rows).rowcount
        except sqlite3.Error as error:
            raise self._failed(error, sql) from error

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

    def _usable(self) -> None:
        # A unit that swallowed a fault must not go on: SQLite may have ended the transaction under it.
        if self.fault is not None:
            raise self.fault
        self.statements += 1

    def _control(self, sql: str) -> None:
        try:
            self._cursor.execute(sql)
        except sqlite3.Error as error:
            raise fault_of(error) from error

    def _failed(self, error: sqlite3.Error, sql: str) -> Exception:
        if _is_storage_error(error):
            self.fault = fault_of(error)
            return self.fault
        return StatementError(f"{error}: {' '.join(sql.split())[:200]}")
