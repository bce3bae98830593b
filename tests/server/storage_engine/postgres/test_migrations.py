"""Migrations on PostgreSQL: the same revisions make the declared schema, data survives, a kill leaves the old state."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from portway.server.storage_engine.database import DatabaseOptions, open_database
from portway.server.storage_engine.migrations.run import migrate_postgres, scripts
from portway.server.storage_engine.migrations.snapshot import POSTGRES_FILE, postgres_snapshot
from portway.server.storage_engine.schema import metadata
from portway.server.storage_engine.upgrade import HEAD
from tests.postgres import PostgresServer

FIRST = "0004"
"""Older ones never ran on PostgreSQL by themselves."""

_COLUMNS = """
SELECT table_name, column_name, data_type, collation_name, is_nullable, column_default FROM information_schema.columns
WHERE table_schema = 'public' ORDER BY table_name, column_name
"""
_INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname"


def connect(postgres: PostgresServer, name: str) -> "psycopg.Connection[Any]":
    return psycopg.connect(postgres.url(name))


def shape(postgres: PostgresServer, name: str) -> list[list[tuple[object, ...]]]:
    return [postgres.run(sql, name) for sql in (_COLUMNS, _INDEXES)]


def test_the_file_that_new_databases_are_made_from_is_what_the_revisions_say() -> None:
    assert POSTGRES_FILE.read_text() == postgres_snapshot(), (
        "run `python -m portway.server.storage_engine.migrations.snapshot`"
    )


def test_the_migrated_schema_is_the_declared_one(postgres: PostgresServer, postgres_database: str) -> None:
    migrate_postgres(connect(postgres, postgres_database), HEAD)
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: connect(postgres, postgres_database), poolclass=NullPool
    )
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_name": lambda name, kind, _: not str(name).startswith("transcript_search")}
        )
        differences = compare_metadata(context, metadata)
    engine.dispose()
    assert differences == []


async def test_a_new_database_is_the_migrated_one(
    postgres: PostgresServer, postgres_database: str, options: DatabaseOptions
) -> None:
    async with open_database(options):
        pass
    other = postgres.new_database()
    try:
        migrate_postgres(connect(postgres, other), HEAD)
        assert shape(postgres, postgres_database) == shape(postgres, other)
    finally:
        postgres.drop_database(other)


async def test_a_new_database_is_made_without_alembic(options: DatabaseOptions) -> None:
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "from portway.server.storage_engine.database import DatabaseOptions, open_database\n"
        "async def main():\n"
        "    async with open_database(DatabaseOptions(url=sys.argv[1], folder=Path(sys.argv[2]))): pass\n"
        "asyncio.run(main())\n"
        "print('alembic' in sys.modules or 'sqlalchemy' in sys.modules)\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, options.url, str(options.folder)), stdout=asyncio.subprocess.PIPE
    )
    assert (await process.communicate())[0] == b"False\n"


async def test_a_host_on_sqlite_does_not_load_the_driver(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from portway.server.storage_engine.database import DatabaseOptions, open_database\n"
        "import portway.server.app\n"
        "async def main():\n"
        "    async with open_database(DatabaseOptions(url=sys.argv[1])): pass\n"
        "asyncio.run(main())\n"
        "print('psycopg' in sys.modules)\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, f"sqlite:///{tmp_path}/portway.db"), stdout=asyncio.subprocess.PIPE
    )
    assert (await process.communicate())[0] == b"False\n"


@pytest.mark.parametrize(
    "old", [script.revision for script in scripts().walk_revisions() if FIRST <= script.revision < HEAD]
)
async def test_an_upgrade_keeps_the_data(
    postgres: PostgresServer, postgres_database: str, options: DatabaseOptions, old: str
) -> None:
    migrate_postgres(connect(postgres, postgres_database), old)
    postgres.run("INSERT INTO workspaces (workspace_id, name) VALUES ('w', 'kept')", postgres_database)
    async with open_database(options) as database:
        assert await database.reader.run(lambda tx: tx.all("SELECT name FROM workspaces")) == [("kept",)]
    assert postgres.run("SELECT version_num FROM alembic_version", postgres_database) == [(HEAD,)]


async def test_a_kill_in_the_middle_of_a_migration_leaves_what_was_before(
    postgres: PostgresServer, postgres_database: str, options: DatabaseOptions
) -> None:
    migrate_postgres(connect(postgres, postgres_database), FIRST)
    before = shape(postgres, postgres_database)
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "from portway.server.storage_engine.database import DatabaseOptions, open_database\n"
        "async def main():\n"
        "    async with open_database(DatabaseOptions(url=sys.argv[1], folder=Path(sys.argv[2]))): pass\n"
        "asyncio.run(main())\n"
    )
    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype IN ('relation', 'transactionid')"
    with connect(postgres, postgres_database) as blocker:
        # The last thing that a migration writes: it has done everything else and waits when it is killed.
        blocker.execute("SELECT version_num FROM alembic_version FOR UPDATE")
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, options.url, str(options.folder))
        while not postgres.run(waiting, postgres_database):
            assert process.returncode is None
            await asyncio.sleep(0)
        process.kill()
        assert await process.wait() == -9
    assert postgres.run("SELECT version_num FROM alembic_version", postgres_database) == [(FIRST,)]
    assert shape(postgres, postgres_database) == before
    async with open_database(options) as database:
        assert database.epoch == 2
