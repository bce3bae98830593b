"""One consistent look at a database, whether its host runs or not."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from portway.rpc.errors import WrongState
from portway.server.archive.place import Place
from portway.server.storage_engine.clock import ForwardClock
from portway.server.storage_engine.sqlite import SqliteTransaction, StorageFault, connect_reader, fault_of
from portway.server.storage_engine.transaction import ReadTransaction
from portway.server.storage_engine.upgrade import HEAD


@contextmanager
def snapshot_of(place: Place, *, any_revision: bool = False) -> Iterator[ReadTransaction]:
    """Everything that is read inside the block is of one moment.

    Raises WrongState when the schema is not of this version; Unavailable when the database cannot be read.
    """
    path = place.sqlite
    if path is None:
        raise WrongState("This database address is not one that Portway knows.")
    try:
        transaction = SqliteTransaction(connect_reader(path), ForwardClock())
    except sqlite3.Error as error:
        raise fault_of(error).problem from error
    try:
        transaction.begin("DEFERRED")
        if not any_revision:
            _check_revision(transaction)
        yield transaction
    except StorageFault as fault:
        raise fault.problem from fault
    finally:
        transaction.close()


def revision_of(transaction: ReadTransaction) -> str:
    """The schema's revision."""
    row = transaction.one("SELECT version_num FROM alembic_version")
    return str(row[0]) if row else ""


def _check_revision(transaction: ReadTransaction) -> None:
    revision = revision_of(transaction)
    if revision != HEAD:
        raise WrongState(
            f"The database has schema {revision or '(none)'}; this version works on {HEAD}. Start the host once with "
            "this version, which migrates it after a backup, or use the version that wrote it."
        )
