"""The implementations that the suite runs on. Each is a plugin whose runner does what the first word of a message says:

`ok TEXT`, `streamed WORDS`, `empty`, `fail`, `hang` (until it is cancelled), `stubborn` (ignores that), `crash`,
`flood N`, `history N` (pages and says what it found), `about` (its process id, first).
"""

import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from portway.rpc.channel import open_channel
from portway.rpc.identity import Caller, Role
from portway.rpc.tokens import FixedTokens, mint_token
from portway.runtime.app import run_runtime
from portway.runtime.config import RuntimeConfig
from portway.v1 import runtime_pb2_grpc
from tests.runtime.conftest import PLUGIN_FOLDERS
from tests.runtime.host_end import BEHAVE, HostEnd

RAW = Path(__file__).parent / "plugins" / "raw"
RAW_MANIFEST = "author: test\nname: raw\nversion: 1.0.0\nlabel: Raw\nexecute: {command: [./run]}\n"


@dataclass(frozen=True, slots=True)
class Subject:
    """An implementation under test, in a live runtime."""

    runner_id: str
    plugin_id: str
    host: HostEnd
    stub: "runtime_pb2_grpc.RuntimeServiceAsyncStub"


def _python_sdk(_folder: Path) -> tuple[str, Path]:
    return BEHAVE, PLUGIN_FOLDERS


def _raw_program(folder: Path) -> tuple[str, Path]:
    """A program of its own: the wrapper stands for what another language would compile."""
    write_program(folder, (RAW / "worker.py").read_text(), f"#!/bin/sh\nexec {sys.executable} worker.py\n")
    return "plugin:test/raw/default", folder / "raw"


def write_program(folder: Path, worker: str, script: str) -> None:
    plugin = folder / "raw"
    shutil.copytree(RAW, plugin)
    (plugin / "manifest.yaml").write_text(RAW_MANIFEST)
    (plugin / "worker.py").write_text(worker)
    (plugin / "run").write_text(script)
    (plugin / "run").chmod(0o755)


IMPLEMENTATIONS = {"python-sdk": _python_sdk, "raw-program": _raw_program}


@pytest.fixture(params=IMPLEMENTATIONS)
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    runner_id, folder = IMPLEMENTATIONS[request.param](tmp_path)
    token = mint_token("runtime").text
    known = FixedTokens([(token, Caller(Role.ADMIN, "*", "tok_test"))])
    config = RuntimeConfig(data=tmp_path / "data", plugins=(folder,), grace_seconds=1.0)
    async with run_runtime(config, known) as server, open_channel(server.address, token=token) as channel:
        plugin_id = runner_id.removeprefix("plugin:").rpartition("/")[0]
        yield Subject(runner_id, plugin_id, HostEnd(channel), runtime_pb2_grpc.RuntimeServiceStub(channel))
