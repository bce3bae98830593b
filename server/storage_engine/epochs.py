"""The host's epoch: a number that grows with every start and stands on every write of an attempt."""

import os

from portway.server.storage_engine.sqlite import SqliteTransaction


def begin_epoch(transaction: SqliteTransaction) -> int:
    """Take the next epoch, on disk before it is used."""
    transaction.begin()
    row = transaction.one(
        "INSERT INTO host_epochs (epoch, process_id, start_time) "
        "SELECT COALESCE(MAX(epoch), 0) + 1, :process_id, :start_time FROM host_epochs WHERE true RETURNING epoch",
        {"process_id": os.getpid(), "start_time": transaction.now},
    )
    if row is None:
        raise AssertionError("an INSERT … RETURNING without conflict answers one row")
    transaction.commit()
    return int(row[0])
