from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.runtime_server import FakeRuntime, serve_fake_runtime
from tests.server.hosting import Hosted, hosted


@pytest.fixture
async def runtime() -> AsyncIterator[FakeRuntime]:
    async with serve_fake_runtime(FakeRuntime()) as serving:
        yield serving


@pytest.fixture
async def host(tmp_path: Path, runtime: FakeRuntime) -> AsyncIterator[Hosted]:
    """A host with a model gateway, whose agent is one of the fake runner."""
    async with hosted(tmp_path, runtime, http_listen="127.0.0.1:0") as serving:
        await serving.set_agent()
        yield serving
