from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portway.box import installation
from portway.box.backends.interface import Backend
from portway.box.backends.namespace.backend import NamespaceBackend, NamespacePaths
from tests.sandbox import why_no_sandbox

# A backend that is added is added here, and has to pass what is in this folder.
BACKENDS = ["namespace"]


@pytest.fixture(params=BACKENDS)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    """A backend over an empty folder, in the mode that the user of this test run has."""
    if reason := why_no_sandbox():
        pytest.skip(reason)
    own = installation.take(tmp_path / "data")
    made = NamespaceBackend(NamespacePaths(own.data, tmp_path / "users"), own, lambda _reason: None)
    report = await made.probe()
    assert report.available, report.reason
    yield made
    await made.close()
    own.close()
