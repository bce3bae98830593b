"""Opening a database on PostgreSQL: check it, bring its schema up to date under a lock, take the host's lease."""

import os
import socket
import time
from functools import partial
from pathlib import Path

from portway.rpc.errors import Reason, WrongState
from portway.server.storage_engine.clock import ForwardClock
from portway.server.storage_engine.database import Announcements, Connections, DatabaseOptions, Place
from portway.server.storage_engine.dialect import Dialect
from portway.server.storage_engine.faults import StorageFault
from portway.server.storage_engine.lock import FolderLock
from portway.server.storage_engine.postgres.lease import LeasedTransaction, take_host_lease
from portway.server.storage_engine.postgres.link import Link
from portway.server.storage_engine.postgres.listening import NOTIFY, Listening
from portway.server.storage_engine.postgres.target import Target, target_of
from portway.server.storage_engine.postgres.transaction import PostgresTransaction
from portway.server.storage_engine.postgres.upgrade import bring_up_to_date, make_schema

OLDEST = 130000
_PATIENCE_AT_START = 5.0
_LOCK_SECONDS = 60.0
# One start at a time looks at the schema and takes the lease, per schema of a database.
_TRY_LOCK = "SELECT pg_try_advisory_lock(1349481079, hashtext(current_schema()))"


def open_postgres(options: DatabaseOptions, lock: FolderLock, folder: Path) -> Connections:
    """Blocks until this host owns the database. `lock` is held on the data folder.

    Raises InvalidInput (URL), WrongState (another host, another program's database, a newer version, encoding), and
    Unavailable when the server does not answer.
    """
    target = target_of(options.url)
    opening = Link(target, "portway opening", patience=_PATIENCE_AT_START)
    try:
        _check(opening)
        _lock(opening)
        make_schema(opening)
        place = f"process {os.getpid()} on {socket.gethostname()}"
        epoch = take_host_lease(opening, lock.identity, os.getpid(), place)
        bring_up_to_date(opening)
    except StorageFault as fault:
        raise fault.problem from fault
    finally:
        # The advisory lock ends with its connection.
        opening.close()
    clock = ForwardClock()
    reader = partial(_reader, target, clock, options.patience)
    listen = Announcements(NOTIFY, lambda heard, missed: Listening(Link(target, "portway listener"), heard, missed))
    where = Place(
        Dialect.POSTGRESQL, target.shown, folder, None, partial(reader, "portway snapshot", idle_seconds=0.0), listen
    )
    writing = LeasedTransaction(Link(target, f"portway writer, epoch {epoch}", patience=options.patience), clock, epoch)
    reading = [reader(f"portway reader {number}, epoch {epoch}") for number in range(options.reader_threads)]
    return Connections(where, writing, reading, None, epoch)


def _reader(
    target: Target, clock: ForwardClock, patience: float, name: str, idle_seconds: float = 60.0
) -> PostgresTransaction:
    return PostgresTransaction(Link(target, name, patience=patience, idle_seconds=idle_seconds), clock)


def _check(link: Link) -> None:
    encoding, version = (
        bytes(one).decode()
        for one in link.control("SELECT current_setting('server_encoding'), current_setting('server_version_num')")
    )
    if encoding != "UTF8":
        raise WrongState(
            f"The database {link.shown} keeps text as {encoding}. Portway needs one with UTF8: "
            "CREATE DATABASE portway ENCODING 'UTF8' TEMPLATE template0.",
            reason=Reason.NOT_CONFIGURED,
        )
    if int(version) < OLDEST:
        raise WrongState(
            f"The server of {link.shown} is PostgreSQL {int(version) // 10000}; Portway needs {OLDEST // 10000} or "
            "newer.",
            reason=Reason.NOT_CONFIGURED,
        )


def _lock(link: Link) -> None:
    until = time.monotonic() + _LOCK_SECONDS
    while bytes(link.control(_TRY_LOCK)[0]) != b"t":
        if time.monotonic() > until:
            raise WrongState(
                f"Another Portway host is starting on the database {link.shown}, or migrates it. Wait until it has "
                "done so.",
                reason=Reason.IN_USE,
            )
        time.sleep(0.2)
