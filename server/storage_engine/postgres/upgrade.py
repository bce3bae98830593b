"""The schema on PostgreSQL: made at once in an empty database, migrated otherwise. Each in one transaction."""

import psycopg

from portway.rpc.errors import Reason, WrongState
from portway.server.storage_engine.migrations.snapshot import POSTGRES_FILE, current_snapshot
from portway.server.storage_engine.postgres.link import Link
from portway.server.storage_engine.upgrade import HEAD

_TABLES = "SELECT COALESCE(string_agg(tablename, ' '), '') FROM pg_tables WHERE schemaname = current_schema()"


def make_schema(link: Link) -> None:
    """Make the schema in an empty database; a kill in the middle leaves it empty.

    Raises WrongState for a database of another program.
    """
    tables = bytes(link.control(_TABLES)[0]).decode().split()
    if not tables:
        statements = current_snapshot(POSTGRES_FILE)
        if statements:
            link.control(f"BEGIN;\n{statements}\nCOMMIT;")
        else:
            _migrate(link)
    elif "alembic_version" not in tables or "host_epochs" not in tables:
        raise WrongState(
            f"The database {link.shown} holds tables of another program. Give Portway a database, or a schema, of its "
            "own.",
            reason=Reason.NOT_CONFIGURED,
        )


def bring_up_to_date(link: Link) -> None:
    """Migrate when needed. The caller holds the lock and the host's lease.

    Raises WrongState when the schema is of a newer version.
    """
    revision = bytes(link.control("SELECT version_num FROM alembic_version")[0]).decode()
    if revision == HEAD:
        return
    # Alembic is loaded where there is something for it to do.
    from portway.server.storage_engine.migrations.run import knows  # noqa: PLC0415

    if not knows(revision):
        raise WrongState(
            f"The database {link.shown} was written by a newer Portway (schema {revision}; this version knows {HEAD}). "
            "Start that version, or restore a backup from before its upgrade.",
            reason=Reason.WRONG_STATE,
        )
    _migrate(link)


def _migrate(link: Link) -> None:
    # The one seam where Alembic and SQLAlchemy are loaded on PostgreSQL.
    from portway.server.storage_engine.migrations.run import migrate_postgres  # noqa: PLC0415

    try:
        migrate_postgres(link.connect_plainly(), HEAD)
    except psycopg.Error as error:
        raise link.failed(error) from error
