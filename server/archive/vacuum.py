"""Giving unused space back to the disk, with the host stopped."""

import sqlite3
from contextlib import closing

from portway.rpc.errors import WrongState
from portway.server.archive.bundle import ensure_free
from portway.server.archive.place import Place, must_exist
from portway.server.storage_engine.sqlite import fault_of


def vacuum(place: Place) -> tuple[int, int]:
    """Write the file anew without holes; answers its size before and after.

    From then on the host gives space back by itself. Raises NotFound, WrongState (in use), LimitExceeded (the disk).
    """
    must_exist(place)
    file = place.sqlite
    if file is None:
        raise WrongState("PostgreSQL does this by itself (autovacuum). Nothing was done.")
    with place.lock:
        before = file.stat().st_size
        # The new file is written beside the old one.
        ensure_free(file.parent, 2 * before)
        try:
            with closing(sqlite3.connect(file, isolation_level=None)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise fault_of(error).problem from error
        return before, file.stat().st_size
