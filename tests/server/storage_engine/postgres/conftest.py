"""An empty database on a real PostgreSQL server, and one that is opened."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portway.server.storage_engine.database import Database, DatabaseOptions, open_database
from tests.postgres import PostgresServer


@pytest.fixture
def options(postgres: PostgresServer, postgres_database: str, tmp_path: Path) -> DatabaseOptions:
    return DatabaseOptions(url=postgres.url(postgres_database), folder=tmp_path / "data")


@pytest.fixture
async def database(options: DatabaseOptions) -> AsyncIterator[Database]:
    async with open_database(options) as opened:
        yield opened
