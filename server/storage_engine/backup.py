"""A copy of the database that is whole, also while the host writes."""

import os
import sqlite3
from pathlib import Path

from portway.server.storage_engine.location import sync_folder

_PAGES_AT_A_TIME = 1_024


def copy_database(source: Path, target: Path) -> None:
    """Copy to `target`, on disk before this returns; an unfinished copy never has the name `target`."""
    unfinished = target.with_name(target.name + ".part")
    unfinished.unlink(missing_ok=True)
    origin = sqlite3.connect(source)
    try:
        # One view for the whole copy: without it every write of the host begins the copy anew, and under load it never
        # comes to its end.
        origin.isolation_level = None
        origin.execute("BEGIN")
        origin.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        copy = sqlite3.connect(unfinished)
        try:
            os.chmod(unfinished, 0o600)
            origin.backup(copy, pages=_PAGES_AT_A_TIME)
        finally:
            copy.close()
    finally:
        origin.close()
    descriptor = os.open(unfinished, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    unfinished.rename(target)
    sync_folder(target.parent)


def keep_newest(folder: Path, pattern: str, count: int) -> None:
    """Delete all but the `count` files of that pattern whose names sort last."""
    for old in sorted(folder.glob(pattern))[:-count]:
        old.unlink()
