from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.adapter_host import AdapterHost, adapter_host


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[AdapterHost]:
    async with adapter_host(tmp_path) as running:
        yield running
