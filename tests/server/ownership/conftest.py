from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.asking_people import ASKING
from tests.fakes.box_server import FakeBox, serve_fake_box
from tests.fakes.runtime_server import FakeRuntime, serve_fake_runtime
from tests.server.hosting import Hosted, hosted


@pytest.fixture
async def runtime() -> AsyncIterator[FakeRuntime]:
    async with serve_fake_runtime(FakeRuntime(manifest=ASKING)) as serving:
        yield serving


@pytest.fixture
async def box() -> AsyncIterator[FakeBox]:
    fake = FakeBox()
    async with serve_fake_box(fake):
        yield fake


@pytest.fixture
async def host(tmp_path: Path, runtime: FakeRuntime, box: FakeBox) -> AsyncIterator[Hosted]:
    """A host whose agent is one of the fake runner, with a box."""
    async with hosted(tmp_path, runtime, box=box) as serving:
        await serving.set_agent()
        yield serving
