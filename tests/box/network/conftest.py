from collections.abc import AsyncIterator, Iterator

import pytest

from portway.v1.session_pb2 import NetworkPolicy
from tests.box.box_process import DOCKER, ROOT, UNPRIVILEGED, BoxProcess, box_process, why_not
from tests.box.inside import Inside, dial, new_session
from tests.box.network.internet import Internet, internet, why_no_internet
from tests.box.network.world import ALLOW_LIST, LISTED, ON, settings


@pytest.fixture(scope="session")
def outside() -> Iterator[Internet]:
    if reason := why_no_internet():
        pytest.skip(reason)
    with internet() as made:
        yield made


@pytest.fixture(scope="module", params=[ROOT, UNPRIVILEGED, pytest.param(DOCKER, marks=pytest.mark.heavy)])
def box(request: pytest.FixtureRequest, outside: Internet) -> Iterator[BoxProcess]:
    """A box in each mode, for which `outside` is the internet."""
    if reason := why_not(request.param):
        pytest.skip(reason)
    with box_process(request.param, settings=settings(outside)) as running:
        running.start()
        yield running


@pytest.fixture
async def on(box: BoxProcess) -> AsyncIterator[Inside]:
    async with dial(box) as opened:
        session = await new_session(opened, network=NetworkPolicy(mode=ON))
        yield session
        await session.delete()


@pytest.fixture
async def listed(box: BoxProcess, outside: Internet) -> AsyncIterator[Inside]:
    async with dial(box) as opened:
        allow = [
            *LISTED,
            "mixed.test:7",
            "127.0.0.1:7",
            f"{outside.public}:7",
            "nowhere.test:81",
            "public.test:9",
        ]
        session = await new_session(opened, network=NetworkPolicy(mode=ALLOW_LIST, allow=allow))
        yield session
        await session.delete()
