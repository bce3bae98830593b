from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portway.server.storage_engine.database import Database, DatabaseOptions, open_database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(DatabaseOptions(url=f"sqlite:///{tmp_path}/portway.db")) as opened:
        yield opened
