"""One consistent look at a database, whether its host runs or not."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from portway.rpc.errors import DataLoss, WrongState
from portway.server.archive.place import Place
from portway.server.storage_engine.clock import ForwardClock
from portway.server.storage_engine.faults import StorageFault
from portway.server.storage_engine.held import HeldTransaction
from portway.server.storage_engine.sqlite import SqliteTransaction, connect_reader, fault_of, is_damage
from portway.server.storage_engine.transaction import ReadTransaction
from portway.server.storage_engine.upgrade import HEAD


@contextmanager
def snapshot_of(place: Place, *, any_revision: bool = False) -> Iterator[ReadTransaction]:
    """Everything that is read inside the block is of one moment.

    Raises WrongState when the schema is not of this version; Unavailable when the database cannot be read; DataLoss for
    a damaged file.
    """
    try:
        transaction = _connect(place)
        try:
            transaction.begin()
            if not any_revision:
                _check_revision(transaction)
            yield transaction
        finally:
            transaction.close()
    except StorageFault as fault:
        raise fault.problem from fault
    except sqlite3.Error as error:
        if is_damage(error):
            raise DataLoss(
                f"The database of {place.data} is damaged ({error}). Restore the last good backup."
            ) from error
        raise fault_of(error).problem from error


def _connect(place: Place) -> HeldTransaction:
    path = place.sqlite
    if path is not None:
        return SqliteTransaction(connect_reader(path), ForwardClock(), reading=True)
    # The driver is loaded only for those who use a server.
    from portway.server.storage_engine.postgres.link import Link  # noqa: PLC0415
    from portway.server.storage_engine.postgres.target import target_of  # noqa: PLC0415
    from portway.server.storage_engine.postgres.transaction import PostgresTransaction  # noqa: PLC0415

    # 0: a dump may pause as long as its disk does.
    return PostgresTransaction(Link(target_of(place.url), "portway archive", idle_seconds=0.0), ForwardClock())


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
