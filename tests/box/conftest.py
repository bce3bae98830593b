from collections.abc import AsyncIterator, Iterator

import pytest

from portway.rpc.channel import PortwayChannel
from tests.box.box_process import DOCKER, ROOT, UNPRIVILEGED, BoxProcess, box_process, why_not
from tests.box.inside import Inside, dial, new_session

# What the box is started with and no sandbox may ever see.
SECRET = "canary-7f3a91"

_OF_THE_ENGINE = "how images look inside differs with the backend; tests/contracts/images runs on an engine too"
NOT_IN_CONTAINERS = {
    "test_images": _OF_THE_ENGINE,
    "test_hostile_images": _OF_THE_ENGINE,
    "test_image_archives": _OF_THE_ENGINE,
}


@pytest.fixture(scope="session", params=[ROOT, UNPRIVILEGED, pytest.param(DOCKER, marks=pytest.mark.heavy)])
def box(request: pytest.FixtureRequest) -> Iterator[BoxProcess]:
    """A box in each mode that this machine allows, shared by all tests that leave it as it was."""
    if reason := why_not(request.param):
        pytest.skip(reason)
    settings = {"search_timeout": 3.0, "reap_interval": 0.5}
    with box_process(request.param, settings=settings, environment={"TEST_CANARY": SECRET}) as running:
        running.start()
        yield running


@pytest.fixture(autouse=True)
def _can_be_tried(request: pytest.FixtureRequest) -> None:
    """Says aloud what a box on an engine does not do yet, instead of trying it."""
    reason = NOT_IN_CONTAINERS.get(request.path.stem)
    if reason and "box" in request.fixturenames and request.getfixturevalue("box").has_image:
        pytest.skip(reason)


@pytest.fixture
async def channel(box: BoxProcess) -> AsyncIterator[PortwayChannel]:
    async with dial(box) as opened:
        yield opened


@pytest.fixture
async def inside(channel: PortwayChannel) -> AsyncIterator[Inside]:
    """A session with the default profile, deleted afterwards."""
    session = await new_session(channel)
    yield session
    await session.delete()
