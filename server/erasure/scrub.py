"""After an erasure: nothing of it is left in the files either."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from portway.server.storage_engine.database import Database
from portway.server.storage_engine.dialect import Dialect

_MERGE = "INSERT INTO transcript_search (transcript_search) VALUES ('optimize')"
_BUSY_SECONDS = 5.0


async def scrub(database: Database) -> None:
    """SQLite overwrites what is deleted (`secure_delete`), but its search index keeps words until it is merged, and its
    log keeps old pages until it is emptied. PostgreSQL's vacuum does both by itself.
    """
    if database.dialect is not Dialect.SQLITE:
        return
    await database.writer.run(lambda tx: tx.execute(_MERGE))
    await asyncio.to_thread(_empty_log, database.path)


def _empty_log(path: Path) -> None:
    with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
