"""The example plugin, as an author tests one: against the kit, and in a real runtime."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from portway.runtime.config import RuntimeConfig
from portway.runtime.plugins.plugin_manifest import read_plugin
from portway.runtime.sdk import AgentRunner
from portway.runtime.sdk.testing import Things, run_runner
from tests.runtime.conftest import LiveRuntime

FOLDER = Path(__file__).parents[2] / "clients" / "examples" / "echo_plugin"


@pytest.fixture
def config(config: RuntimeConfig) -> RuntimeConfig:
    return replace(config, plugins=(FOLDER,))


def _echo() -> Callable[[], AgentRunner]:
    spec = importlib.util.spec_from_file_location("echo", FOLDER / "echo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Echo  # type: ignore[no-any-return]


def test_its_manifest_has_no_problem() -> None:
    assert not read_plugin(FOLDER, bundled=False).problems


async def test_it_echoes_and_counts_in_the_kit() -> None:
    things = Things()
    for count in (1, 2):
        outcome = await run_runner(_echo(), "hello there", things=things, permissions=["state"])
        assert outcome.messages == [f"You said: hello there ({count})"]
        assert outcome.streamed == outcome.messages[0]


async def test_it_needs_its_permission() -> None:
    outcome = await run_runner(_echo(), "hello")
    assert outcome.error_code == "runner.error"


async def test_it_runs_in_a_process_of_its_own(runtime: LiveRuntime) -> None:
    run = await runtime.host.finished("hello", "plugin:examples/echo/default", config={"prefix": ">"})
    assert run.message == "> hello (1)"
    assert len([kind for kind in run.kinds if kind == "message_delta"]) == 3
