"""Every test here runs on every database that Portway can use."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portway.server.storage_engine.database import Database, DatabaseOptions, open_database


@pytest.fixture(params=["sqlite"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A new, migrated, empty database."""
    urls = {"sqlite": f"sqlite:///{tmp_path}/portway.db"}
    async with open_database(DatabaseOptions(url=urls[request.param])) as opened:
        yield opened
