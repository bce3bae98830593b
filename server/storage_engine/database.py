"""Opening the host's database: one place that locks, migrates, connects, and takes everything down again in order."""

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from portway.rpc.errors import DataLoss, LimitExceeded, Reason, WrongState
from portway.server.storage_engine.clock import ForwardClock
from portway.server.storage_engine.dialect import Dialect
from portway.server.storage_engine.epochs import begin_epoch
from portway.server.storage_engine.faults import StorageFault
from portway.server.storage_engine.held import HeldTransaction
from portway.server.storage_engine.location import (
    database_path,
    is_postgres,
    make_private,
    prepare_folder,
    sync_folder,
)
from portway.server.storage_engine.lock import FolderLock
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.space import give_back_pages
from portway.server.storage_engine.sqlite import (
    SqliteTransaction,
    connect_reader,
    connect_writer,
    fault_of,
    is_damage,
)
from portway.server.storage_engine.transaction import Query
from portway.server.storage_engine.upgrade import bring_up_to_date
from portway.server.storage_engine.writer import GROUP_LIMIT, QUEUE_LIMIT, Writer

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseOptions:
    """`url`: `sqlite:///path` or `postgresql://user@host:port/database`.

    `folder`: the host's data folder; needed where the database is no file in it. `room`: bytes that must stay free on
    the disk of that folder for new work to be taken. `busy_seconds`: how long to wait for another program that holds
    SQLite's file locked. `patience`: how many seconds work waits for a server that went away before it is refused.
    """

    url: str
    folder: Path | None = None
    reader_threads: int = 3
    group_limit: int = GROUP_LIMIT
    queue_limit: int = QUEUE_LIMIT
    room: int = 64 * 1024 * 1024
    busy_seconds: float = 5.0
    patience: float = 15.0


class Closing(Protocol):
    """Something that goes on until it is closed; closing blocks briefly."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Announcements:
    """`announce` is SQL that tells every session a `:topic`. `begin` starts a thread that calls its first argument with
    each topic that it hears, and its second whenever it may have missed some."""

    announce: str
    begin: Callable[[Callable[[str], object], Callable[[], object]], Closing]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the data is. `snapshots` opens a connection for one long view; `listen` is how sessions of a server hear of
    one another."""

    dialect: Dialect
    shown: str
    folder: Path
    file: Path | None
    snapshots: Callable[[], HeldTransaction]
    listen: Announcements | None = None


@dataclass(frozen=True, slots=True)
class Connections:
    """What an opened database is used through. `own`: the event loop's reader, where there is one."""

    place: Place
    writing: HeldTransaction
    reading: Sequence[HeldTransaction]
    own: HeldTransaction | None
    epoch: int


class Database:
    """An open database. `epoch` grows with every start: whatever an older start still tries to write is refused.

    `folder` is where blobs, keys and the lock lie; `place` says where the data is, without any password.
    """

    def __init__(self, place: "Place", writer: Writer, reader: Reader, epoch: int, room: int) -> None:
        self.dialect = place.dialect
        self.place = place.shown
        self.folder = place.folder
        self._file = place.file
        self.listen = place.listen
        self._snapshots = place.snapshots
        self.writer = writer
        self.reader = reader
        self.epoch = epoch
        self._room = room
        self._room_checked_at = float("-inf")
        self._free = 0

    @property
    def server(self) -> str:
        """The server that keeps it, without the password; '' for a file."""
        return "" if self._file is not None else self.place

    @property
    def path(self) -> Path:
        """SQLite's file. Raises WrongState where there is none."""
        if self._file is None:
            raise WrongState(
                f"The database is no file: it is kept by the server {self.place}. Use that server's own tools.",
                reason=Reason.NOT_SUPPORTED_HERE,
            )
        return self._file

    async def read_snapshot(self, query: Query[T]) -> T:
        """Run a long query on a connection of its own: one consistent view of everything, while others write.

        For copies and exports. Raises what the query raised, and Unavailable.
        """
        return await asyncio.to_thread(_in_snapshot, self._snapshots, query)

    async def give_back(self) -> bool:
        """Give some unused space of SQLite's file back to the disk; true where there is more.

        Nothing happens for files that were made before Portway did so; `portway db vacuum` brings them to it.
        """
        return self.dialect is Dialect.SQLITE and await self.writer.run(give_back_pages)

    def ensure_room(self) -> None:
        """Raise LimitExceeded while the disk is nearly full: new work is refused before running work fails."""
        moment = time.monotonic()
        if moment - self._room_checked_at > 1.0:
            usage = os.statvfs(self.folder)
            self._free = usage.f_bavail * usage.f_frsize
            self._room_checked_at = moment
        if self._free < self._room:
            raise LimitExceeded(
                f"Only {self._free // 1024 // 1024} MiB are free on the disk that holds Portway's data "
                f"({self._room // 1024 // 1024} MiB must stay free). New work is refused until there is more.",
                reason=Reason.DISK_FULL,
                retry_after=30.0,
            )


@asynccontextmanager
async def open_database(options: DatabaseOptions) -> AsyncIterator[Database]:
    """Open it, migrated and with a new epoch, and close it on leaving: queued writes are committed first.

    Raises InvalidInput for a bad URL; WrongState when the folder cannot be used, another host uses folder or database,
    or the database is of a newer version; LimitExceeded when the disk is full; DataLoss for a file that is no database;
    Unavailable when a server does not answer.
    """
    with ExitStack() as stack:
        if is_postgres(options.url):
            # The one seam where the driver is loaded: a host on SQLite does not pay for it.
            from portway.server.storage_engine.postgres.opening import open_postgres  # noqa: PLC0415

            if options.folder is None:
                raise AssertionError("a host on PostgreSQL has a data folder too")
            prepare_folder(options.folder)
            lock = stack.enter_context(FolderLock(options.folder / "portway.lock"))
            connected = await asyncio.to_thread(open_postgres, options, lock, options.folder)
        else:
            path = database_path(options.url)
            prepare_folder(path.parent)
            stack.enter_context(FolderLock(path.with_name(path.name + ".lock")))
            connected = await asyncio.to_thread(_open_sqlite, path, options)
        writer = Writer(connected.writing, group_limit=options.group_limit, queue_limit=options.queue_limit)
        reader = Reader(connected.reading, connected.own, queue_limit=options.queue_limit)
        try:
            yield Database(connected.place, writer, reader, connected.epoch, options.room)
        finally:
            # Readers first: the last connection to close moves the log into the database file, and they may not write.
            reader.close()
            writer.close()


def _in_snapshot(connect: Callable[[], HeldTransaction], query: Query[T]) -> T:
    try:
        transaction = connect()
        try:
            transaction.begin()
            try:
                return query(transaction)
            finally:
                transaction.rollback()
        finally:
            transaction.close()
    except StorageFault as fault:
        raise fault.problem from fault


def _open_sqlite(path: Path, options: DatabaseOptions) -> Connections:
    try:
        make_private(path)
        bring_up_to_date(path)
        clock = ForwardClock()

        def reader(busy_seconds: float = options.busy_seconds) -> SqliteTransaction:
            return SqliteTransaction(connect_reader(path, busy_seconds), clock, reading=True)

        writing = SqliteTransaction(connect_writer(path, options.busy_seconds), clock)
        epoch = begin_epoch(writing)
        place = Place(Dialect.SQLITE, str(path), path.parent, path, reader)
        connected = Connections(place, writing, [reader() for _ in range(options.reader_threads)], reader(0.0), epoch)
        sync_folder(path.parent)
    except StorageFault as fault:
        raise fault.problem from fault
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise DataLoss(
                f"The file {path} is not a database or is damaged ({error}). Restore a backup of it, or move it away "
                "to begin with an empty one."
            ) from error
        raise fault_of(error).problem from error
    return connected
