"""Upgrades under a stream of runs, and folders that change while somebody works on them."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from portway.runtime.config import RuntimeConfig
from portway.v1 import runtime_pb2 as pb
from tests.runtime.conftest import LiveRuntime
from tests.runtime.folders import write_plugin
from tests.runtime.installed.packs import RUNNER, install, packed, plugin, says
from tests.waiting import until, until_told

# Says its version piece by piece, some time between them.
SLOW = """
import asyncio
from portway.runtime.sdk import AgentRunner, MessageCompleted, TextDelta


class Runner(AgentRunner):
    async def run(self, ctx, host):
        for _ in range(5):
            yield TextDelta("VERSION ", "m")
            await asyncio.sleep(0.01)
        yield MessageCompleted.of_text("VERSION", message_key="m")
"""


# Ends once a file is there.
WAITS = """
import asyncio
import os
from portway.runtime.sdk import AgentRunner, MessageCompleted, TextDelta


class Runner(AgentRunner):
    async def run(self, ctx, host):
        yield TextDelta("begun", "m")
        while not os.path.exists("FILE"):
            await asyncio.sleep(0.01)
        yield MessageCompleted.of_text("old")
"""


def is_there(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


def slow(folder: Path, version: str) -> bytes:
    return packed(folder, version, code=SLOW.replace("VERSION", version))


async def test_no_run_is_lost_and_none_is_of_two_versions(runtime: LiveRuntime, tmp_path: Path) -> None:
    await install(runtime.operator, slow(tmp_path, "1"))
    finished: list[str] = []
    over = asyncio.Event()

    async def keep_running() -> None:
        while not over.is_set():
            run = await runtime.host.finished("", RUNNER)
            pieces = [one.message_delta.text for one in run.results if one.HasField("message_delta")]
            assert {piece.strip() for piece in pieces} == {run.message}
            finished.append(run.message)

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(keep_running())
        for version in ("2", "3", "4", "5"):
            seen = len(finished)
            await until(lambda: len(finished) >= seen + 10)  # noqa: B023 - waited for within the round
            await install(runtime.operator, slow(tmp_path, version))
            assert await says(runtime) == version, "a run that begins after the answer is of the new version"
        await runtime.operator.RollbackPlugin(pb.RollbackPluginRequest(plugin_id="test/one", version="3"))
        assert await says(runtime) == "3"
        over.set()
    assert set(finished) <= {"1", "2", "3", "4", "5"}
    assert len(finished) >= 40


async def test_a_run_finishes_on_the_version_it_began_with_and_the_old_process_ends(
    runtime: LiveRuntime, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    await install(runtime.operator, packed(tmp_path, "1", code=WAITS.replace("FILE", str(go))))
    async with runtime.host.run("", RUNNER) as run:
        await run.until("message_delta")
        old = (await plugin(runtime.stub)).pid
        await install(runtime.operator, packed(tmp_path, "2"))
        assert await says(runtime) == "2"
        assert is_there(old)
        go.touch()
        await run.until_end()
        assert run.message == "old"
    await until(lambda: not is_there(old))


async def test_a_reload_that_cannot_be_used_leaves_the_old_one_running(
    runtime: LiveRuntime, config: RuntimeConfig
) -> None:
    root = config.data / "plugins"
    folder = write_plugin(root, says="old")
    await runtime.operator.ReloadPlugins(pb.ReloadPluginsRequest())
    assert await says(runtime) == "old"
    before = await plugin(runtime.stub)

    write_plugin(root, code="import nothing_like_this\n")
    answer = await runtime.operator.ReloadPlugins(pb.ReloadPluginsRequest())
    (told,) = [problem.message for problem in answer.problems if problem.plugin == "test/one"]
    assert "nothing_like_this" in told
    assert "goes on until it is corrected" in told
    assert await says(runtime) == "old"

    (folder / "manifest.yaml").write_text("author: [")
    answer = await runtime.operator.ReloadPlugins(pb.ReloadPluginsRequest())
    assert [problem.location for problem in answer.problems if problem.plugin == "test/one"] == ["manifest.yaml"]
    assert await says(runtime) == "old"
    assert (await plugin(runtime.stub)).pid == before.pid

    write_plugin(root, says="new")
    await runtime.operator.ReloadPlugins(pb.ReloadPluginsRequest())
    assert await says(runtime) == "new"


class TestWatching:
    @pytest.fixture
    def config(self, config: RuntimeConfig) -> RuntimeConfig:
        return replace(config, reload_on_change=True)

    async def test_a_change_is_taken_up_by_itself_and_a_broken_one_is_not(
        self, runtime: LiveRuntime, config: RuntimeConfig
    ) -> None:
        root = config.data / "plugins"
        write_plugin(root, says="first")

        async def is_listed() -> bool:
            listed = await runtime.stub.ListRunners(pb.ListRunnersRequest(page_size=200))
            return RUNNER in {one.id for one in listed.runners}

        await until_told(is_listed)
        assert await says(runtime) == "first"

        async def says_second() -> bool:
            return await says(runtime) == "the second"

        write_plugin(root, says="the second")
        await until_told(says_second)

        async def has_a_problem() -> bool:
            listed = await runtime.stub.ListRunners(pb.ListRunnersRequest(page_size=1))
            return any("nothing_like_this" in one.message for one in listed.problems)

        write_plugin(root, code="import nothing_like_this\n")
        await until_told(has_a_problem)
        assert await says(runtime) == "the second"
