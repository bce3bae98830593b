"""A published server as it comes from its registry, installed and run in the box without any network."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from portway.server.agents.types import ResourcePolicy
from portway.v1 import run_pull_pb2, session_pb2, tool_pb2
from tests.fakes.runtime_server import FakeRun, FakeRuntime, serve_fake_runtime
from tests.peers.wheels import PYTHON, downloaded_wheels
from tests.sandbox import why_no_sandbox
from tests.server.hosting import Hosted, hosted
from tests.server.playing import played
from tests.server.tools.mcp.test_over_http import make, result_of
from tests.server.tools.real_box import RealBox, running_box
from tests.waiting import until

pytestmark = pytest.mark.heavy

INSTALL = (
    f"{PYTHON} -m venv --without-pip e && {PYTHON} -m pip --python e/bin/python --disable-pip-version-check install "
    "--no-cache-dir --no-index --find-links /opt/wheels mcp-server-time"
)


@pytest.fixture
def real_box(tmp_path: Path) -> Iterator[RealBox]:
    if reason := why_no_sandbox():
        pytest.skip(f"no sandbox on this machine: {reason}")
    if subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"{PYTHON} has no pip: install python3-pip and python3-venv")
    wheels = tmp_path / "seen" / "wheels"
    shutil.copytree(downloaded_wheels("mcp-server-time.lock"), wheels)
    (tmp_path / "box").mkdir()
    with running_box(tmp_path / "box", [wheels.parent]) as box:
        yield box


@pytest.fixture
async def runtime() -> AsyncIterator[FakeRuntime]:
    async with serve_fake_runtime(FakeRuntime()) as serving:
        yield serving


@pytest.fixture
async def host(tmp_path: Path, runtime: FakeRuntime, real_box: RealBox) -> AsyncIterator[Hosted]:
    box: Any = real_box
    async with hosted(tmp_path, runtime, box=box) as serving:
        await serving.set_agent(resource_policy=ResourcePolicy(tools=("mcp:time/*",)))
        await until(lambda: serving.parts.box_link.availability().available)
        yield serving


async def test_an_agent_asks_it_for_the_time(
    host: Hosted, runtime: FakeRuntime, real_box: RealBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = session_pb2.Mount(source=str(real_box.mount_roots[0] / "wheels"), target="/opt/wheels")
    made = await make(
        host,
        tool_pb2.McpServer(
            server_id="time",
            command=["e/bin/python", "-m", "mcp_server_time", "--local-timezone", "UTC"],
            install=["/bin/sh", "-c", INSTALL],
            mounts=[wheels],
            box_session="assistant",
        ),
    )
    assert made.mcp_server.state == "connected", made.mcp_server
    assert sorted(tool.name for tool in made.tools) == ["mcp:time/convert_time", "mcp:time/get_current_time"]

    def asking(name: str, **arguments: str) -> run_pull_pb2.RunnerServiceCallToolRequest:
        request = run_pull_pb2.RunnerServiceCallToolRequest(name=f"mcp:time/{name}")
        request.arguments.update(arguments)
        return request

    async def script(run: FakeRun) -> None:
        noon = asking("convert_time", source_timezone="UTC", time="12:00", target_timezone="Asia/Tokyo")
        result = await result_of(run, noon)
        assert "21:00" in result.text and not result.is_error
        now = await result_of(run, asking("get_current_time", timezone="UTC"))
        assert "UTC" in now.text and not now.is_error
        wrong = await result_of(run, asking("get_current_time", timezone="Nowhere/Land"))
        assert wrong.is_error

    await played(host, runtime, script)
