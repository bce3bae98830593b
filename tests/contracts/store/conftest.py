"""Every test here runs on every database that Portway can use."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portway.server.storage_engine.database import Database, DatabaseOptions, open_database
from portway.server.storage_engine.dialect import Dialect
from tests.postgres import PostgresServer


@pytest.fixture(params=list(Dialect))
def options(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseOptions:
    """A new, empty database."""
    if request.param == Dialect.SQLITE:
        return DatabaseOptions(url=f"sqlite:///{tmp_path}/portway.db")
    server: PostgresServer = request.getfixturevalue("postgres")
    return DatabaseOptions(url=server.url(request.getfixturevalue("postgres_database")), folder=tmp_path / "data")


@pytest.fixture
async def database(options: DatabaseOptions) -> AsyncIterator[Database]:
    """Migrated."""
    async with open_database(options) as opened:
        yield opened
