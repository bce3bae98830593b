"""Running the revisions. This module loads SQLAlchemy and Alembic."""

import io
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from psycopg import Connection as PostgresConnection

FOLDER = Path(__file__).parent


def scripts() -> ScriptDirectory:
    """The revisions."""
    return ScriptDirectory.from_config(_config())


def knows(revision: str) -> bool:
    """True when this version has that revision."""
    return revision in {script.revision for script in scripts().walk_revisions()}


def migrate(path: Path, target: str) -> None:
    """Bring the file to the revision, in one transaction: a kill in the middle leaves it as it was."""
    engine = create_engine("sqlite://", creator=lambda: _connect(path), poolclass=NullPool)
    event.listen(engine, "begin", _begin)
    _run(engine, target)


def migrate_postgres(connection: "PostgresConnection[Any]", target: str) -> None:
    """The same over a connection of its own, which is closed."""
    _run(create_engine("postgresql+psycopg://", creator=lambda: connection, poolclass=NullPool), target)


def statements_for_postgres(target: str) -> str:
    """What all revisions together would run on a new PostgreSQL database, without one."""
    config = _config()
    config.attributes["statements"] = config.output_buffer = io.StringIO()
    command.upgrade(config, target, sql=True)
    return str(config.attributes["statements"].getvalue())


def _run(engine: Engine, target: str) -> None:
    try:
        with engine.begin() as connection:
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, target)
    except DBAPIError as error:
        # What the database said, not how it was asked: whoever opens it knows what that means.
        raise error.orig or error from error
    finally:
        engine.dispose()


def _connect(path: Path) -> sqlite3.Connection:
    # The driver must not begin or commit by itself around DDL.
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _config() -> Any:
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    return config
