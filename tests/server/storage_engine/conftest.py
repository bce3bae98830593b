"""A database of its own for each test, with a table that no noun owns: of each kind, or SQLite alone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portway.server.storage_engine.database import Database, DatabaseOptions, open_database
from portway.server.storage_engine.dialect import Dialect
from tests.postgres import PostgresServer

# `number` is the order in which rows came.
NOTES = {
    Dialect.SQLITE: "CREATE TABLE notes (number INTEGER PRIMARY KEY, id TEXT UNIQUE, text TEXT NOT NULL)",
    Dialect.POSTGRESQL: "CREATE TABLE notes (number BIGSERIAL PRIMARY KEY, id TEXT UNIQUE, text TEXT NOT NULL)",
}


@pytest.fixture
def sqlite_options(tmp_path: Path) -> DatabaseOptions:
    return DatabaseOptions(url=f"sqlite:///{tmp_path}/data/portway.db")


@pytest.fixture
async def sqlite_database(sqlite_options: DatabaseOptions) -> AsyncIterator[Database]:
    async with open_database(sqlite_options) as opened:
        await opened.writer.run(lambda tx: tx.execute(NOTES[tx.dialect]))
        yield opened


@pytest.fixture(params=list(Dialect))
def options(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseOptions:
    if request.param is Dialect.SQLITE:
        return DatabaseOptions(url=f"sqlite:///{tmp_path}/data/portway.db")
    server: PostgresServer = request.getfixturevalue("postgres")
    return DatabaseOptions(url=server.url(request.getfixturevalue("postgres_database")), folder=tmp_path / "data")


@pytest.fixture
async def database(options: DatabaseOptions) -> AsyncIterator[Database]:
    async with open_database(options) as opened:
        await opened.writer.run(lambda tx: tx.execute(NOTES[tx.dialect]))
        yield opened
