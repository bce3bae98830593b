"""Opening the host's database: one place that locks, migrates, connects, and takes everything down again in order."""

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from portway.rpc.errors import DataLoss, LimitExceeded, Reason
from portway.server.storage_engine.clock import ForwardClock
from portway.server.storage_engine.epochs import begin_epoch
from portway.server.storage_engine.location import database_path, make_private, prepare_folder, sync_folder
from portway.server.storage_engine.lock import FolderLock
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.sqlite import (
    SqliteTransaction,
    StorageFault,
    connect_reader,
    connect_writer,
    fault_of,
    is_damage,
)
from portway.server.storage_engine.upgrade import bring_up_to_date
from portway.server.storage_engine.writer import GROUP_LIMIT, QUEUE_LIMIT, Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseOptions:
    """`url`: `sqlite:///path`.

    `room`: bytes that must stay free on the disk for new work to be taken. `busy_seconds`: how long to wait for another
    program that holds the file locked.
    """

    url: str
    reader_threads: int = 3
    group_limit: int = GROUP_LIMIT
    queue_limit: int = QUEUE_LIMIT
    room: int = 64 * 1024 * 1024
    busy_seconds: float = 5.0


class Database:
    """An open database. `epoch` grows with every start: whatever an older start still tries to write is refused."""

    def __init__(self, path: Path, writer: Writer, reader: Reader, epoch: int, room: int) -> None:
        self.path = path
        self.writer = writer
        self.reader = reader
        self.epoch = epoch
        self._room = room
        self._room_checked_at = float("-inf")
        self._free = 0

    def ensure_room(self) -> None:
        """Raise LimitExceeded while the disk is nearly full: new work is refused before running work fails."""
        moment = time.monotonic()
        if moment - self._room_checked_at > 1.0:
            usage = os.statvfs(self.path.parent)
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

    Raises InvalidInput for a bad URL; WrongState when the folder cannot be used, another host uses it, or the database
    is of a newer version; LimitExceeded when the disk is full; Unavailable when the file cannot be read as a database.
    """
    path = database_path(options.url)
    with ExitStack() as stack:
        prepare_folder(path.parent)
        stack.enter_context(FolderLock(path.with_name(path.name + ".lock")))
        writing, reading, own, epoch = await asyncio.to_thread(_connect, path, options)
        writer = Writer(writing, group_limit=options.group_limit, queue_limit=options.queue_limit)
        reader = Reader(reading, own, queue_limit=options.queue_limit)
        try:
            yield Database(path, writer, reader, epoch, options.room)
        finally:
            # Readers first: the last connection to close moves the log into the database file, and they may not write.
            reader.close()
            writer.close()


def _connect(
    path: Path, options: DatabaseOptions
) -> tuple[SqliteTransaction, list[SqliteTransaction], SqliteTransaction, int]:
    try:
        make_private(path)
        bring_up_to_date(path)
        clock = ForwardClock()
        writing = SqliteTransaction(connect_writer(path, options.busy_seconds), clock)
        epoch = begin_epoch(writing)
        reading = [
            SqliteTransaction(connect_reader(path, options.busy_seconds), clock) for _ in range(options.reader_threads)
        ]
        own = SqliteTransaction(connect_reader(path, 0.0), clock)
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
    return writing, reading, own, epoch
