"""Opening the database: everything that can be wrong is told in words that help."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from portway.rpc.errors import DataLoss, InvalidInput, Reason, WrongState
from portway.server.storage_engine.database import DatabaseOptions, open_database
from portway.server.storage_engine.location import database_path, prepare_folder
from portway.server.storage_engine.transaction import Transaction


def insert(tx: Transaction, workspace_id: str) -> int:
    return tx.execute("INSERT INTO workspaces (workspace_id) VALUES (:id)", {"id": workspace_id})


async def opened_epoch(sqlite_options: DatabaseOptions) -> int:
    async with open_database(sqlite_options) as database:
        return database.epoch


async def test_each_start_has_a_higher_epoch(sqlite_options: DatabaseOptions) -> None:
    assert [await opened_epoch(sqlite_options) for _ in range(3)] == [1, 2, 3]


async def test_a_second_start_on_the_same_data_is_refused_by_name(sqlite_options: DatabaseOptions) -> None:
    async with open_database(sqlite_options):
        with pytest.raises(WrongState) as refused:
            await opened_epoch(sqlite_options)
        assert refused.value.reason == Reason.IN_USE
        assert f"process {os.getpid()}" in refused.value.message
    assert await opened_epoch(sqlite_options) == 2


async def test_a_second_process_is_refused_until_the_first_is_gone(sqlite_options: DatabaseOptions) -> None:
    program = (
        "import asyncio, sys\n"
        "from portway.server.storage_engine.database import DatabaseOptions, open_database\n"
        "async def main():\n"
        "    async with open_database(DatabaseOptions(url=sys.argv[1])):\n"
        "        print('ready', flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, sqlite_options.url, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    with pytest.raises(WrongState, match=f"process {process.pid}"):
        await opened_epoch(sqlite_options)
    process.kill()
    await process.communicate()
    assert await opened_epoch(sqlite_options) == 2


async def test_a_cancelled_shutdown_still_commits_and_gives_the_lock_back(sqlite_options: DatabaseOptions) -> None:
    opened = asyncio.Event()
    written: list[asyncio.Future[int]] = []

    async def host() -> None:
        async with open_database(sqlite_options) as database:
            written.extend(database.writer.submit(partial(insert, workspace_id=f"w{n}")) for n in range(500))
            opened.set()
            await asyncio.Event().wait()

    running = asyncio.ensure_future(host())
    await opened.wait()
    running.cancel()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with open_database(sqlite_options) as database:
        assert await database.reader.run(lambda tx: tx.one("SELECT COUNT(*) FROM workspaces")) == (500,)
    assert await asyncio.gather(*written) == [1] * 500


async def test_files_are_readable_by_their_owner_alone(sqlite_options: DatabaseOptions) -> None:
    async with open_database(sqlite_options) as database:
        folder = database.path.parent
        modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
        assert set(modes.values()) == {0o600}, modes
        assert folder.stat().st_mode & 0o777 == 0o700


async def test_after_closing_everything_is_in_the_one_file(sqlite_options: DatabaseOptions) -> None:
    async with open_database(sqlite_options) as database:
        path = database.path
    left = {file.name for file in path.parent.iterdir()}
    assert left == {"portway.db", "portway.db.lock"}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "portway.db",
        "sqlite://portway.db",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///a.db?mode=ro",
        "mysql://localhost/portway",
        "postgresql://localhost/portway",
    ],
)
def test_a_url_that_is_not_a_database_file_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="sqlite:///path"):
        database_path(url)


def test_a_url_names_a_relative_or_an_absolute_file() -> None:
    assert database_path("sqlite:////var/lib/portway.db") == Path("/var/lib/portway.db")
    assert database_path("sqlite:///data/portway.db") == Path.cwd() / "data" / "portway.db"


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    # /proc refuses new files even to root.
    with pytest.raises(WrongState) as refused:
        prepare_folder(Path("/proc/portway"))
    assert "/proc/portway" in refused.value.message
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(WrongState, match="in the way"):
        prepare_folder(blocked / "data")


async def test_a_read_only_folder_is_told_so(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o500)
    os.chmod(tmp_path, 0o755)
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from portway.rpc.errors import WrongState\n"
        "from portway.server.storage_engine.location import prepare_folder\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "try: prepare_folder(Path(sys.argv[1]))\n"
        "except WrongState as error: print(error.message)\n"
    )
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o001:
            parent.chmod(0o711)
    run = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True
    )
    assert "read-only for this user" in run.stdout
    assert str(folder) in run.stdout
    assert "choose another folder" in run.stdout


async def test_a_folder_where_the_file_should_be_is_told(sqlite_options: DatabaseOptions) -> None:
    await asyncio.to_thread(database_path(sqlite_options.url).mkdir, parents=True)
    with pytest.raises(WrongState, match="cannot be written"):
        await opened_epoch(sqlite_options)


async def test_a_file_that_is_no_database_is_left_as_it_is(sqlite_options: DatabaseOptions) -> None:
    path = database_path(sqlite_options.url)
    await asyncio.to_thread(path.parent.mkdir)
    await asyncio.to_thread(path.write_bytes, b"this is a letter, not a database" * 100)
    with pytest.raises(DataLoss, match="is not a database or is damaged"):
        await opened_epoch(sqlite_options)
    assert (await asyncio.to_thread(path.read_bytes)).startswith(b"this is a letter")


async def test_a_database_of_another_program_is_left_alone(sqlite_options: DatabaseOptions) -> None:
    path = database_path(sqlite_options.url)
    await asyncio.to_thread(path.parent.mkdir)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE contacts (name TEXT)")
    connection.close()
    with pytest.raises(WrongState, match="another program"):
        await opened_epoch(sqlite_options)


async def test_a_low_disk_refuses_new_work(sqlite_options: DatabaseOptions) -> None:
    async with open_database(sqlite_options) as database:
        database.ensure_room()
    async with open_database(replace(sqlite_options, room=2**62)) as database:
        with pytest.raises(Exception, match="MiB must stay free") as refused:
            database.ensure_room()
        assert refused.value.reason == Reason.DISK_FULL  # type: ignore[attr-defined]


async def test_a_database_of_a_newer_version_is_refused_and_kept(sqlite_options: DatabaseOptions) -> None:
    await opened_epoch(sqlite_options)
    path = database_path(sqlite_options.url)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(WrongState, match="newer Portway"):
        await opened_epoch(sqlite_options)
