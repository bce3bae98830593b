from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from portway.rpc.channel import PortwayChannel
from tests.box.box_process import DOCKER, ROOT, UNPRIVILEGED, BoxProcess, box_process, why_not
from tests.box.inside import dial
from tests.contracts.images.scripted_registry import ScriptedRegistry, scripted_registry
from tests.engines.registry import PASSWORD, USER, Registry, registry, why_no_registry


@dataclass(frozen=True)
class Given:
    """A box that may pull from these."""

    box: BoxProcess
    open: Registry | None
    closed: Registry | None


@pytest.fixture(scope="session")
def registries() -> Iterator[tuple[Registry, Registry] | None]:
    """One for everybody and one with a password; none where the program is not installed."""
    if why_no_registry():
        yield None
        return
    with registry() as opened, registry(closed=True) as closed:
        yield opened, closed


# A backend that keeps images is added here, and has to pass what is in this folder.
@pytest.fixture(scope="session", params=[ROOT, UNPRIVILEGED, DOCKER])
def given(request: pytest.FixtureRequest, registries: tuple[Registry, Registry] | None) -> Iterator[Given]:
    if reason := why_not(request.param):
        pytest.skip(reason)
    with box_process(request.param) as box:
        images: dict[str, Any] = {"import_idle": 5.0, "allow": ["127.0.0.1:1/*"], "registries": {}}
        for one in registries or ():
            images["allow"].append(f"{one.host}/*")
            images["registries"][one.host] = {"insecure": True}
        if registries is not None:
            password = box.folder / "password"
            password.write_text(f"{PASSWORD}\n")
            images["registries"][registries[1].host] |= {"username": USER, "password_file": str(password)}
        box.settings = {"images": images}
        box.start()
        yield Given(box, *(registries or (None, None)))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A pull is the same code for all backends: on an engine, one is enough for every day."""
    for item in items:
        mode = (
            item.callspec.params.get("given") if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ""
        )
        if item.path.stem == "test_pulls" and mode == DOCKER and "is_pulled_and_used" not in item.name:
            item.add_marker(pytest.mark.heavy)


@pytest.fixture
def box(given: Given) -> BoxProcess:
    return given.box


@pytest.fixture
async def channel(box: BoxProcess) -> AsyncIterator[PortwayChannel]:
    async with dial(box) as opened:
        yield opened


@pytest.fixture
def source(given: Given) -> Registry:
    if given.open is None:
        pytest.skip(why_no_registry())
    return given.open


@pytest.fixture
def closed_source(given: Given) -> Registry:
    if given.closed is None:
        pytest.skip(why_no_registry())
    return given.closed


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedRegistry]:
    async with scripted_registry() as made:
        yield made
