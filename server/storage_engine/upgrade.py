"""The database's schema brought to what this version needs, with a backup first.

Going back is restoring that backup.
"""

import sqlite3
import time
from pathlib import Path

from portway.rpc.errors import Reason, WrongState
from portway.server.storage_engine.backup import copy_database, keep_newest
from portway.server.storage_engine.migrations.snapshot import current_snapshot

HEAD = "0023"
"""The newest revision under `migrations/versions`."""

_BACKUPS_KEPT = 3


def bring_up_to_date(path: Path) -> None:
    """Migrate when needed.

    The caller holds the folder's lock. Raises WrongState when the file is of a newer version.
    """
    revision = _revision(path)
    if revision == HEAD:
        return
    if not revision and (statements := current_snapshot()):
        _create(path, statements)
        return
    # The one seam where Alembic and SQLAlchemy are loaded: half a second and 30 MB that no other start pays.
    from portway.server.storage_engine.migrations.run import knows, migrate  # noqa: PLC0415

    if revision and not knows(revision):
        raise WrongState(
            f"The database {path} was written by a newer Portway (schema {revision}; this version knows {HEAD}). Start "
            f"that version, or restore a backup from before its upgrade ({path.name}.before-*).",
            reason=Reason.WRONG_STATE,
        )
    if revision:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        copy_database(path, path.with_name(f"{path.name}.before-{HEAD}-{stamp}"))
        keep_newest(path.parent, f"{path.name}.before-*", _BACKUPS_KEPT)
    migrate(path, HEAD)


def _create(path: Path, statements: str) -> None:
    """Make a new database in one transaction: a kill in the middle leaves none."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous=FULL")
        # Only before the first table: what is deleted later can go back to the disk in small pieces.
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.executescript(f"BEGIN IMMEDIATE;\n{statements}\nCOMMIT;")
    finally:
        connection.close()


def _revision(path: Path) -> str:
    """The schema's revision; '' for a new database."""
    if not path.exists() or path.stat().st_size == 0:
        return ""
    connection = sqlite3.connect(path)
    try:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "alembic_version" not in tables:
            raise WrongState(
                f"The file {path} is a database of another program. Choose another file for Portway's data.",
                reason=Reason.NOT_CONFIGURED,
            )
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if tables else None
    finally:
        connection.close()
    return str(row[0]) if row else ""
