"""From revision 0003 with data in every table to today, and back by the copy that the upgrade made."""

import asyncio
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from portway.rpc.errors import WrongState
from portway.server.storage_engine.migrations.run import migrate
from portway.server.storage_engine.upgrade import HEAD, bring_up_to_date
from tests.server.archive.tools import rows, tool

Content = dict[str, list[tuple[Any, ...]]]
OLD = "0003"


def names(connection: sqlite3.Connection) -> list[str]:
    sql = (
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'transcript_search%' "
        "AND name NOT LIKE 'sqlite%' AND name <> 'alembic_version' ORDER BY name"
    )
    return [row[0] for row in connection.execute(sql)]


def an_old_database(path: Path) -> Content:
    """Of revision 0003, with three rows in every table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    migrate(path, OLD)
    with closing(sqlite3.connect(path)) as connection:
        for table in names(connection):
            columns = connection.execute(f'PRAGMA table_info("{table}")').fetchall()
            for number in (1, 2, 3):
                row = [_value(column[1], column[2], number) for column in columns]
                connection.execute(f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(row))})', row)
        connection.commit()
    return contents(path)


def _value(name: str, kind: str, number: int) -> object:
    if kind == "BLOB":
        return bytes([number])
    if kind != "TEXT":
        return number
    # Nothing that a start would go on with.
    if name == "stream":
        return "audit"
    return "" if name == "sha256" else "ended" if name == "state" else f"{name}-{number}"


def contents(path: Path, only: Content | None = None) -> Content:
    """Every table; `only` those columns that an older content has."""
    with closing(sqlite3.connect(path)) as connection:
        tables = list(only) if only is not None else names(connection)
        return {table: connection.execute(f'SELECT * FROM "{table}" ORDER BY 1, 2').fetchall() for table in tables}


def beginnings(content: Content, of: Content) -> Content:
    """Rows cut to the columns that the older content has: later revisions only add at the end."""
    return {table: [row[: len(of[table][0])] for row in content[table]] for table in of}


async def test_an_upgrade_from_0003_keeps_every_row_and_goes_back_by_its_copy(tmp_path: Path) -> None:
    path = tmp_path / "host/portway.db"
    before = await asyncio.to_thread(an_old_database, path)
    assert all(len(found) == 3 for found in before.values())
    assert (await tool("backup", "--host-data", path.parent, tmp_path / "old.zip")).code == 0
    await asyncio.to_thread(bring_up_to_date, path)
    assert beginnings(contents(path, before), before) == before
    (copy,) = list_copies(path)
    assert contents(copy) == before
    # Back, and forth again.
    copy.replace(path)
    assert contents(path) == before
    await asyncio.to_thread(bring_up_to_date, path)
    assert beginnings(contents(path, before), before) == before
    # A backup of then is brought up to date by a restore of now.
    done = await tool("restore", "--host-data", tmp_path / "new", tmp_path / "old.zip")
    assert done.code == 0, done.err
    assert await rows(tmp_path / "new", "SELECT version_num FROM alembic_version") == [(HEAD,)]
    assert await rows(tmp_path / "new", "SELECT COUNT(*) FROM transcript") == [(3,)]


def list_copies(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.before-*"))


async def test_a_start_finishes_the_upgrade_of_one_that_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "portway.db"
    before = await asyncio.to_thread(an_old_database, path)
    program = (
        "import sys; from pathlib import Path\n"
        "from portway.server.storage_engine.upgrade import bring_up_to_date\n"
        "bring_up_to_date(Path(sys.argv[1]))\n"
    )
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        # It holds the upgrade up between its writes and its commit.
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM events").fetchall()
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(path))
        while not await asyncio.to_thread(path.with_name("portway.db-journal").exists):
            assert process.returncode is None
            await asyncio.sleep(0)
        process.kill()
        assert await process.wait() == -9
    assert contents(path) == before
    assert [contents(copy) for copy in list_copies(path)] == [before]
    await asyncio.to_thread(bring_up_to_date, path)
    assert beginnings(contents(path, before), before) == before


async def test_a_newer_schema_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "portway.db"
    await asyncio.to_thread(bring_up_to_date, path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    with pytest.raises(WrongState, match="newer Portway .*9999.*restore a backup"):
        await asyncio.to_thread(bring_up_to_date, path)
    refused = await tool("export", "--host-data", tmp_path, tmp_path / "a.zip")
    assert (refused.code, "9999" in refused.err) == (1, True)
