"""Opening a database on PostgreSQL: one host owns it, and everything that can be wrong is told without the password."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from portway.rpc.errors import InvalidInput, PortwayError, Reason, Unavailable, WrongState
from portway.server.storage_engine.database import DatabaseOptions, open_database
from portway.server.storage_engine.dialect import Dialect
from portway.server.storage_engine.postgres.target import target_of
from portway.server.storage_engine.upgrade import HEAD
from tests.postgres import PASSWORD, PostgresServer, needs_postgres, postgres_server
from tests.rpc.test_serving import write_certificate

_HOLD = """
import asyncio, sys
from pathlib import Path
from portway.server.storage_engine.database import DatabaseOptions, open_database
async def main():
    async with open_database(DatabaseOptions(url=sys.argv[1], folder=Path(sys.argv[2]))) as database:
        print(database.epoch, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def opened_epoch(options: DatabaseOptions) -> int:
    async with open_database(options) as database:
        return database.epoch


@asynccontextmanager
async def another_host(options: DatabaseOptions, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that has the database open."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _HOLD, options.url, str(folder)), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_each_start_has_a_higher_epoch(options: DatabaseOptions) -> None:
    assert [await opened_epoch(options) for _ in range(3)] == [1, 2, 3]


async def test_where_it_is_is_shown_without_a_password(
    postgres: PostgresServer, postgres_database: str, tmp_path: Path
) -> None:
    url = postgres.tcp_url(postgres_database)
    async with open_database(DatabaseOptions(url=url, folder=tmp_path)) as database:
        assert database.dialect is Dialect.POSTGRESQL
        assert database.place == f"postgresql://portway@127.0.0.1:{postgres.port}/{postgres_database}"
        with pytest.raises(WrongState, match="no file"):
            _ = database.path
    assert PASSWORD not in repr(target_of(url))


async def test_a_second_host_is_refused_soon_and_by_name_while_the_first_lives(
    options: DatabaseOptions, tmp_path: Path
) -> None:
    async with another_host(options, tmp_path / "other") as process:
        with pytest.raises(WrongState, match="in use by another Portway host") as refused:
            await opened_epoch(options)
        assert refused.value.reason == Reason.IN_USE
        assert f"process {process.pid}" in refused.value.message
        assert process.returncode is None


async def test_a_host_that_was_killed_is_followed_at_once_on_its_own_folder(
    options: DatabaseOptions, tmp_path: Path
) -> None:
    folder = tmp_path / "same"
    async with another_host(options, folder) as process:
        process.kill()
        await process.wait()
    assert await opened_epoch(replace(options, folder=folder)) == 2


async def test_a_host_that_was_killed_on_another_machine_is_followed_when_its_lease_ends(
    options: DatabaseOptions, tmp_path: Path
) -> None:
    """Another folder stands for another machine: nobody can know that the process is dead."""
    async with another_host(options, tmp_path / "other") as process:
        process.kill()
        await process.wait()
        begun = time.monotonic()
        assert await opened_epoch(options) == 2
        # Not a measure of speed: the lease is what decides.
        assert time.monotonic() - begun < 60


async def test_a_host_that_was_frozen_finds_itself_replaced_and_writes_nothing_more(
    options: DatabaseOptions, postgres: PostgresServer, postgres_database: str, tmp_path: Path
) -> None:
    async with another_host(options, tmp_path / "other") as process:
        process.send_signal(signal.SIGSTOP)
        try:
            async with open_database(options) as database:
                assert database.epoch == 2
                process.send_signal(signal.SIGCONT)
                # Its idle writer looks after its lease, finds another's, and says so to whoever supervises it.
                (old,) = postgres.run("SELECT fencing_token FROM leases WHERE name = 'host'", postgres_database)
                assert old == (2,)
                await database.writer.run(lambda tx: tx.execute("DELETE FROM host_epochs WHERE epoch = 0"))
        finally:
            process.send_signal(signal.SIGCONT)


async def test_a_writer_whose_lease_was_taken_breaks_and_changes_nothing(
    options: DatabaseOptions, postgres: PostgresServer, postgres_database: str
) -> None:
    async with open_database(options) as database:
        postgres.run("UPDATE leases SET fencing_token = fencing_token + 1 WHERE name = 'host'", postgres_database)
        with pytest.raises(Unavailable, match="taken over") as refused:
            await database.writer.run(lambda tx: tx.execute("INSERT INTO workspaces (workspace_id) VALUES ('w')"))
        assert refused.value.reason == Reason.STALE_HOST
        with pytest.raises(Unavailable, match="taken over"):
            await asyncio.wait_for(database.writer.broken(), 60)
    assert postgres.run("SELECT * FROM workspaces", postgres_database) == []


async def test_an_idle_host_notices_by_itself_that_its_lease_was_taken(
    options: DatabaseOptions, postgres: PostgresServer, postgres_database: str
) -> None:
    async with open_database(options) as database:
        postgres.run("UPDATE leases SET fencing_token = fencing_token + 1 WHERE name = 'host'", postgres_database)
        with pytest.raises(Unavailable, match="taken over"):
            await asyncio.wait_for(database.writer.broken(), 60)


async def test_hosts_that_start_at_once_make_one_schema_and_one_of_them_owns_it(
    options: DatabaseOptions, tmp_path: Path
) -> None:
    folders = [tmp_path / f"host-{number}" for number in range(4)]
    held = asyncio.Event()

    async def start(folder: Path) -> int:
        async with open_database(replace(options, folder=folder)) as database:
            await held.wait()
            return database.epoch

    starting = [asyncio.ensure_future(start(folder)) for folder in folders]
    done, owners = await asyncio.wait(starting, timeout=60, return_when=asyncio.FIRST_EXCEPTION)
    while len(owners) > 1:
        more, owners = await asyncio.wait(owners, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        done |= more
    for refused in done:
        error = refused.exception()
        assert isinstance(error, WrongState) and error.reason == Reason.IN_USE
    held.set()
    assert [await owner for owner in owners] == [1]


async def test_a_database_of_a_newer_version_is_refused_and_kept(
    options: DatabaseOptions, postgres: PostgresServer, postgres_database: str
) -> None:
    await opened_epoch(options)
    postgres.run("UPDATE alembic_version SET version_num = '9999'", postgres_database)
    with pytest.raises(WrongState, match="newer Portway") as refused:
        await opened_epoch(options)
    assert HEAD in refused.value.message
    assert postgres.run("SELECT version_num FROM alembic_version", postgres_database) == [("9999",)]


async def test_a_database_of_another_program_is_left_alone(
    options: DatabaseOptions, postgres: PostgresServer, postgres_database: str
) -> None:
    postgres.run("CREATE TABLE contacts (name TEXT)", postgres_database)
    with pytest.raises(WrongState, match="another program"):
        await opened_epoch(options)
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    assert postgres.run(tables, postgres_database) == [("contacts",)]


async def test_a_database_that_is_not_unicode_is_refused(postgres: PostgresServer, tmp_path: Path) -> None:
    name = postgres.new_database("SQL_ASCII")
    try:
        with pytest.raises(WrongState, match="UTF8"):
            await opened_epoch(DatabaseOptions(url=postgres.url(name), folder=tmp_path))
    finally:
        postgres.drop_database(name)


async def test_a_schema_of_its_own_is_enough(postgres: PostgresServer, postgres_database: str, tmp_path: Path) -> None:
    postgres.run("CREATE TABLE contacts (name TEXT); CREATE SCHEMA portway", postgres_database)
    url = postgres.url(postgres_database) + "&options=-csearch_path%3Dportway"
    assert await opened_epoch(DatabaseOptions(url=url, folder=tmp_path)) == 1
    found = postgres.run("SELECT schemaname FROM pg_tables WHERE tablename = 'workspaces'", postgres_database)
    assert found == [("portway",)]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://portway:hidd@n/secret@127.0.0.1/x",
        "postgresql://portway:hidd#nsecret@127.0.0.1:port/x",
        "postgresql://portway:hiddn@secret@127.0.0.1/x",
        "postgresql://portway:hiddnsecret@127.0.0.1/x?nonsense=1",
        "postgresql://portway:hiddnsecret@[::1/x",
        "postgres:/portway:hiddnsecret",
        "mysql://portway:hiddnsecret@127.0.0.1/x",
    ],
)
async def test_a_url_that_cannot_be_understood_is_not_repeated(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="postgresql://USER:PASSWORD@HOST") as refused:
        await opened_epoch(DatabaseOptions(url=url, folder=tmp_path))
    cause: BaseException | None = refused.value
    while cause is not None:
        assert "secret" not in str(cause) and "hidd" not in str(cause)
        cause = None if cause.__suppress_context__ else cause.__cause__ or cause.__context__


@pytest.mark.parametrize("wrong", ["password", "database", "port"])
async def test_a_server_that_refuses_or_is_not_there_is_told_without_the_password(
    postgres: PostgresServer, postgres_database: str, tmp_path: Path, wrong: str
) -> None:
    url = {
        "password": f"postgresql://portway:wrong-secret@127.0.0.1:{postgres.port}/{postgres_database}",
        "database": postgres.tcp_url("no_such_database"),
        "port": postgres.tcp_url(postgres_database, port=1),
    }[wrong]
    said = {"password": "password authentication failed", "database": "does not exist", "port": "refused"}[wrong]
    with pytest.raises(PortwayError, match=said) as refused:
        await opened_epoch(DatabaseOptions(url=url, folder=tmp_path))
    assert "wrong-secret" not in refused.value.message and PASSWORD not in refused.value.message
    assert "cannot be reached" in refused.value.message


@needs_postgres
async def test_a_server_with_a_certificate_is_verified(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    known, unknown = write_certificate(tmp_path), write_certificate(other)
    with postgres_server(durable=False, tls=known) as server:
        name = server.new_database()
        encrypted = (
            "SELECT COUNT(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND usename = 'portway'"
        )
        url = f"{server.tcp_url(name)}?sslmode=verify-full&sslrootcert="
        async with open_database(DatabaseOptions(url=url + str(known.certificate), folder=tmp_path)) as database:
            await database.writer.run(lambda tx: tx.now)
            assert server.run(encrypted, name) != [(0,)]
        with pytest.raises(Unavailable, match="certificate verify failed"):
            await opened_epoch(DatabaseOptions(url=url + str(unknown.certificate), folder=tmp_path))
