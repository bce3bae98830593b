from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portway.box import installation
from portway.box.backends.engine.backend import EngineBackend, EngineSettings
from portway.box.backends.engine.engine import DOCKER
from portway.box.backends.interface import Backend
from portway.box.backends.namespace.backend import NamespaceBackend, NamespacePaths
from tests.engines.dockerd import docker_engine, why_no_docker
from tests.sandbox import why_no_sandbox

# A backend that is added is added here, and has to pass what is in this folder.
BACKENDS = {"namespace": why_no_sandbox, DOCKER: why_no_docker}


@pytest.fixture(params=BACKENDS)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    """A backend over an empty folder, in the mode that the user of this test run has."""
    if reason := BACKENDS[request.param]():
        pytest.skip(reason)
    own = installation.take(tmp_path / "data")
    paths = NamespacePaths(own.data, tmp_path / "users")
    made: Backend
    if request.param == DOCKER:
        engine = docker_engine()
        made = EngineBackend(DOCKER, EngineSettings(engine.socket, engine.image), paths, own.identity)
    else:
        made = NamespaceBackend(paths, own, lambda _reason: None)
    report = await made.probe()
    assert report.available, report.reason
    yield made
    await made.close()
    own.close()
