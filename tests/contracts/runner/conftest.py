"""The implementations that the suite runs on: each has a runner for the words of portway.runtime.kit.behaviours."""

import shutil
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from portway.runtime.kit.subject import Subject, live
from tests.contracts.runner.built import built_go, built_node
from tests.runtime.conftest import PLUGIN_FOLDERS
from tests.runtime.host_end import BEHAVE

RAW = Path(__file__).parent / "plugins" / "raw"
RAW_MANIFEST = "author: test\nname: raw\nversion: 1.0.0\nlabel: Raw\nexecute: {command: [./run]}\n"
RAW_SCRIPT = f"#!/bin/sh\nexec {sys.executable} worker.py\n"


@dataclass(frozen=True, slots=True)
class Implementation:
    """A plugin. `folder` makes it ready and says where it is."""

    runner_id: str
    folder: Callable[[Path], Path]


def _python_sdk(_folder: Path) -> Path:
    return PLUGIN_FOLDERS


def _raw_program(folder: Path) -> Path:
    """A program of its own that knows nothing but the contract."""
    write_program(folder, (RAW / "worker.py").read_text(), RAW_SCRIPT)
    return folder / "raw"


def write_program(folder: Path, worker: str, script: str) -> None:
    plugin = folder / "raw"
    shutil.copytree(RAW, plugin)
    (plugin / "manifest.yaml").write_text(RAW_MANIFEST)
    (plugin / "worker.py").write_text(worker)
    (plugin / "run").write_text(script)
    (plugin / "run").chmod(0o755)


IMPLEMENTATIONS = {
    "python-sdk": Implementation(BEHAVE, _python_sdk),
    "raw-program": Implementation("plugin:test/raw/default", _raw_program),
    "go": Implementation("plugin:examples/echo-go/conformance", lambda _: built_go()),
    "node": Implementation("plugin:examples/echo-node/conformance", lambda _: built_node()),
}
# The compilers' packages come from registries, and the first build takes more than half a minute.
_BUILT = ("go", "node")
PARAMETERS = [pytest.param(name, marks=[pytest.mark.heavy] if name in _BUILT else []) for name in IMPLEMENTATIONS]


@pytest.fixture(params=PARAMETERS)
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    implementation = IMPLEMENTATIONS[request.param]
    async with live(implementation.runner_id, implementation.folder(tmp_path), tmp_path / "data") as subject:
        yield subject
