"""A backup is a whole database, also when it is taken while the host writes."""

import asyncio
import os
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

from portway.server.storage_engine.backup import copy_database, keep_newest
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.transaction import Transaction


def pair(tx: Transaction, number: int) -> None:
    tx.insert_many("notes", [{"id": f"{number}/{half}", "text": "x" * 500} for half in range(2)])


async def test_a_copy_taken_during_writes_is_whole(sqlite_database: Database, tmp_path: Path) -> None:
    database = sqlite_database
    for number in range(500):
        database.writer.submit(partial(pair, number=number))
    await database.writer.run(lambda tx: None)
    copying = asyncio.ensure_future(asyncio.to_thread(copy_database, database.path, tmp_path / "copy.db"))
    number = 500
    while not copying.done():
        await database.writer.run(partial(pair, number=number))
        number += 1
    await copying
    with closing(sqlite3.connect(tmp_path / "copy.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        counts = connection.execute("SELECT COUNT(*), COUNT(DISTINCT substr(id, 1, instr(id, '/') - 1)) FROM notes")
        rows, numbers = counts.fetchone()
    assert rows == 2 * numbers
    assert numbers >= 500
    assert await asyncio.to_thread(os.listdir, tmp_path) in (["copy.db", "data"], ["data", "copy.db"])


def test_only_the_newest_backups_are_kept(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"db.before-{number}").touch()
    (tmp_path / "other").touch()
    keep_newest(tmp_path, "db.before-*", 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "db.before-3",
        "db.before-4",
        "db.before-5",
        "other",
    ]
