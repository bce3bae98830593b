"""Migrations: the result is the declared schema, data survives, a backup comes first, a kill leaves the old state."""

import asyncio
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from portway.server.storage_engine.database import DatabaseOptions, open_database
from portway.server.storage_engine.migrations.run import migrate, scripts
from portway.server.storage_engine.migrations.snapshot import FILE, snapshot_of
from portway.server.storage_engine.schema import metadata
from portway.server.storage_engine.upgrade import HEAD, bring_up_to_date


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_the_newest_revision_is_the_one_that_a_start_expects() -> None:
    assert scripts().get_heads() == [HEAD]


def test_the_migrated_schema_is_the_declared_one(tmp_path: Path) -> None:
    path = tmp_path / "portway.db"
    migrate(path, HEAD)
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_name": lambda name, kind, _: not str(name).startswith("transcript_search")}
        )
        differences = compare_metadata(context, metadata)
    engine.dispose()
    assert differences == []


def test_the_file_that_new_databases_are_made_from_is_what_the_revisions_make(tmp_path: Path) -> None:
    migrate(tmp_path / "portway.db", HEAD)
    assert FILE.read_text() == snapshot_of(tmp_path / "portway.db"), (
        "run `python -m portway.server.storage_engine.migrations.snapshot`"
    )


async def test_a_new_database_is_made_without_alembic(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from portway.server.storage_engine.upgrade import bring_up_to_date\n"
        "bring_up_to_date(Path(sys.argv[1]))\n"
        "print('alembic' in sys.modules or 'sqlalchemy' in sys.modules)\n"
    )
    path = tmp_path / "portway.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(path), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert output == b"False\n"
    assert snapshot_of(path) == await asyncio.to_thread(FILE.read_text)


def test_indexes_with_a_condition_are_the_declared_ones(tmp_path: Path) -> None:
    """The comparison above does not look at conditions."""
    path = tmp_path / "portway.db"
    migrate(path, HEAD)
    declared = {
        index.name: str(condition)
        for table in metadata.tables.values()
        for index in table.indexes
        if (condition := index.dialect_options["sqlite"]["where"]) is not None
    }
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql LIKE '% WHERE %'")
        migrated = {name: sql.partition(" WHERE ")[2] for name, sql in rows}
    assert migrated == declared


def test_every_table_leads_with_the_workspace() -> None:
    """But for the host's own, and those whose rows are found before their workspace is known."""
    own = {"host_epochs", "transcript"}
    first = {name: next(iter(table.primary_key.columns)).name for name, table in metadata.tables.items()}
    assert {name for name, column in first.items() if column != "workspace_id"} == own


@pytest.mark.parametrize("old", [script.revision for script in scripts().walk_revisions() if script.revision != HEAD])
def test_an_upgrade_keeps_the_data_and_a_backup_of_before(tmp_path: Path, old: str) -> None:
    path = tmp_path / "portway.db"
    migrate(path, old)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO workspaces (workspace_id, name) VALUES ('w', 'kept')")
        connection.commit()
    before = tables(path)
    bring_up_to_date(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM workspaces").fetchall() == [("kept",)]
    assert set(metadata.tables) <= tables(path)
    (backup,) = tmp_path.glob("portway.db.before-*")
    assert backup.stat().st_mode & 0o777 == 0o600
    # Going back is putting the backup in place.
    assert tables(backup) == before
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT name FROM workspaces").fetchall() == [("kept",)]


def test_a_new_database_and_a_current_one_need_no_backup(tmp_path: Path) -> None:
    path = tmp_path / "portway.db"
    bring_up_to_date(path)
    bring_up_to_date(path)
    assert list(tmp_path.glob("*.before-*")) == []


async def test_a_kill_in_the_middle_of_a_migration_leaves_what_was_before(tmp_path: Path) -> None:
    path = tmp_path / "portway.db"
    await asyncio.to_thread(migrate, path, "0001")
    before = tables(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        # A reader keeps the migration from committing: it has written to its journal and waits when it is killed.
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM events").fetchall()
        program = (
            "import sys; from pathlib import Path\n"
            "from portway.server.storage_engine.migrations.run import migrate\n"
            "migrate(Path(sys.argv[1]), sys.argv[2])\n"
        )
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(path), HEAD)
        journal = path.with_name("portway.db-journal")
        while not await asyncio.to_thread(journal.exists):
            assert process.returncode is None
            await asyncio.sleep(0)
        process.kill()
        assert await process.wait() == -9
    assert await asyncio.to_thread(tables, path) == before
    async with open_database(DatabaseOptions(url=f"sqlite:///{path}")) as database:
        assert database.epoch == 1
    assert set(metadata.tables) <= await asyncio.to_thread(tables, path)
