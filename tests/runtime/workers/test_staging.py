"""A version is made ready beside the one in use: with a process that is given no runs until it is installed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from portway.rpc.errors import Unavailable
from portway.runtime.environments.types import EnvironmentsConfig
from portway.runtime.plugins.plugin_manifest import read_plugin
from portway.runtime.plugins.types import PluginDefinition, StartMode
from portway.runtime.workers.supervisor import Supervisor, supervise
from portway.runtime.workers.types import WorkerLimits, WorkerState
from portway.v1 import worker_pb2, worker_pb2_grpc
from tests.runtime.folders import write_plugin
from tests.waiting import until

ID = "test/one"
RAISES = "raise RuntimeError('no such service')\n"


def version(root: Path, number: str, code: str = "") -> PluginDefinition:
    plugin = read_plugin(write_plugin(root / number, "one", version=number, code=code), bundled=False)
    assert isinstance(plugin, PluginDefinition)
    return plugin


@asynccontextmanager
async def supervisor_in(folder: Path) -> AsyncIterator[Supervisor]:
    limits = WorkerLimits(drain=5.0, kill=1.0)
    async with supervise(folder / "w", limits, {}, {}, EnvironmentsConfig(), folder / "environments") as supervisor:
        yield supervisor


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s")


async def test_a_staged_version_takes_over_while_the_old_one_finishes(folder: Path) -> None:
    async with supervisor_in(folder) as supervisor:
        first, second = version(folder, "1.0.0"), version(folder, "2.0.0")
        supervisor.apply({ID: first})
        async with supervisor.keeper(ID).lease() as old:
            await supervisor.stage(second)
            async with supervisor.keeper(ID).lease() as still:
                assert still is old
            supervisor.apply({ID: second})
            async with supervisor.keeper(ID).lease() as new:
                assert (new.plugin.version, new.generation) == ("2.0.0", old.generation + 1)
                assert not old.end.done()
        await asyncio.wait_for(asyncio.shield(old.end), 60)
        assert supervisor.statuses()[ID].generation == new.generation


async def test_a_version_that_does_not_start_is_told_of_and_the_old_one_goes_on(folder: Path) -> None:
    async with supervisor_in(folder) as supervisor:
        supervisor.apply({ID: version(folder, "1.0.0")})
        async with supervisor.keeper(ID).lease() as old:
            with pytest.raises(Unavailable, match=r"version 2.0.0 of test/one cannot be used.*no such service"):
                await supervisor.stage(version(folder, "2.0.0", RAISES))
            async with supervisor.keeper(ID).lease() as still:
                assert still is old
        assert supervisor.statuses()[ID].state is WorkerState.RUNNING


async def test_a_new_plugin_is_staged_before_anybody_knows_of_it(folder: Path) -> None:
    async with supervisor_in(folder) as supervisor:
        plugin = version(folder, "1.0.0")
        await supervisor.stage(plugin)
        assert ID not in supervisor.statuses()
        supervisor.apply({ID: plugin})
        assert supervisor.statuses()[ID].state is WorkerState.RUNNING


@pytest.mark.parametrize("installed", [False, True])
async def test_what_was_staged_ends_when_it_is_not_wanted(folder: Path, installed: bool) -> None:
    async with supervisor_in(folder) as supervisor:
        first, second = version(folder, "1.0.0"), version(folder, "2.0.0")
        if installed:
            supervisor.apply({ID: first})
        await supervisor.stage(second)
        pids = _children(supervisor.fork_server_pid)
        assert len(pids) == 1
        await supervisor.unstage(ID)
        assert _children(supervisor.fork_server_pid) == []


async def test_another_definition_than_the_staged_one_does_not_get_its_process(folder: Path) -> None:
    async with supervisor_in(folder) as supervisor:
        await supervisor.stage(version(folder, "2.0.0"))
        third = version(folder, "3.0.0")
        supervisor.apply({ID: third})
        async with supervisor.keeper(ID).lease() as worker:
            assert worker.plugin.version == "3.0.0"
        await until(lambda: len(_children(supervisor.fork_server_pid)) == 1)


async def test_a_plugin_that_is_started_at_boot_and_fails_is_tried_again(folder: Path) -> None:
    async with supervisor_in(folder) as supervisor:
        waits = f"import os, sys\nif not os.path.exists({str(folder / 'now')!r}):\n    sys.exit(5)\n"
        code = waits + "from portway.runtime.sdk import AgentRunner as Runner\n"
        supervisor.apply({ID: replace(version(folder, "1.0.0", code), start=StartMode.BOOT)})
        await until(lambda: "ended with code 5" in supervisor.statuses()[ID].reason)
        (folder / "now").touch()
        await until(lambda: supervisor.statuses()[ID].state is WorkerState.RUNNING)


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_a_dead_plugins_identity_is_worth_nothing_afterwards(folder: Path) -> None:
    async with supervisor_in(folder) as supervisor:
        supervisor.apply({ID: version(folder, "1.0.0")})
        async with supervisor.keeper(ID).lease() as old:
            cookie = old.metadata
            os.kill(old.process.pid, signal.SIGKILL)
            await asyncio.wait([old.end])
        async with supervisor.keeper(ID).lease() as new:
            assert await new.is_alive()
            socket = next(path for path in (folder / "w").glob("*/socket") if path.parent.name == f"w{new.generation}")
            async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
                worker = worker_pb2_grpc.WorkerServiceStub(channel)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await worker.Ping(worker_pb2.PingRequest(), metadata=cookie)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
