"""A database of its own for each test, with a table that no noun owns."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portway.server.storage_engine.database import Database, DatabaseOptions, open_database

NOTES = "CREATE TABLE notes (id TEXT PRIMARY KEY, text TEXT NOT NULL)"


@pytest.fixture
def options(tmp_path: Path) -> DatabaseOptions:
    return DatabaseOptions(url=f"sqlite:///{tmp_path}/data/portway.db")


@pytest.fixture
async def database(options: DatabaseOptions) -> AsyncIterator[Database]:
    async with open_database(options) as opened:
        await opened.writer.run(lambda tx: tx.execute(NOTES))
        yield opened
