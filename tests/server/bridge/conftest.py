from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.runtime_server import FakeRuntime, serve_fake_runtime
from tests.server.bridge.clients import HEARTBEAT
from tests.server.bridge.scripted_tools import ScriptedTools
from tests.server.hosting import Hosted, hosted


@pytest.fixture
async def runtime() -> AsyncIterator[FakeRuntime]:
    async with serve_fake_runtime(FakeRuntime()) as serving:
        yield serving


@pytest.fixture
def tools() -> ScriptedTools:
    return ScriptedTools()


@pytest.fixture
async def host(tmp_path: Path, runtime: FakeRuntime, tools: ScriptedTools) -> AsyncIterator[Hosted]:
    """A host that serves bridges over HTTP, whose agent has tools that a test scripts."""
    async with hosted(tmp_path, runtime, http_listen="127.0.0.1:0", bridge=HEARTBEAT) as serving:
        await tools.given_to(serving)
        yield serving
