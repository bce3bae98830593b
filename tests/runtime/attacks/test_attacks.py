"""A plugin that means harm: its runs fail with a reason, its neighbours answer meanwhile, and nothing is left of it."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from portway.rpc.channel import open_channel
from portway.rpc.identity import Caller, Role
from portway.rpc.tokens import FixedTokens, mint_token
from portway.runtime.app import run_runtime
from portway.runtime.config import RuntimeConfig
from portway.runtime.workers.groups import Groups
from portway.v1 import runtime_pb2, runtime_pb2_grpc
from tests.runtime.conftest import PLUGIN_FOLDERS
from tests.runtime.host_end import BEHAVE, HostEnd
from tests.waiting import until

HOSTILE = "plugin:test/hostile/default"
PLUGINS = Path(__file__).parent / "plugins"


@dataclass(frozen=True, slots=True)
class Attacked:
    host: HostEnd
    stub: "runtime_pb2_grpc.RuntimeServiceAsyncStub"

    async def plugin(self) -> runtime_pb2.Plugin:
        return (await self.stub.GetPlugin(runtime_pb2.GetPluginRequest(plugin_id="test/hostile"))).plugin

    async def neighbour_answers(self) -> None:
        assert (await self.host.finished("ok neighbour", BEHAVE)).message == "neighbour"

    async def recycle(self) -> None:
        await self.stub.RecyclePlugin(runtime_pb2.RecyclePluginRequest(plugin_id="test/hostile"))

    async def answers_again(self) -> None:
        assert (await self.host.finished("ok again", HOSTILE)).message == "again"


@asynccontextmanager
async def attacked_in(folder: Path, hung_seconds: float = 60.0) -> AsyncIterator[Attacked]:
    """A runtime with a hostile plugin and a neighbour."""
    shutil.copytree(PLUGIN_FOLDERS / "behave", folder / "plugins" / "behave")
    shutil.copytree(PLUGINS / "hostile", folder / "plugins" / "hostile")
    token = mint_token("runtime").text
    known = FixedTokens([(token, Caller(Role.ADMIN, "*", "tok_test"))])
    config = RuntimeConfig(
        data=folder / "data",
        plugins=(folder / "plugins",),
        grace_seconds=1.0,
        drain_seconds=2.0,
        hung_seconds=hung_seconds,
    )
    async with run_runtime(config, known) as server, open_channel(server.address, token=token) as channel:
        attacked = Attacked(HostEnd(channel), runtime_pb2_grpc.RuntimeServiceStub(channel))
        await attacked.neighbour_answers()
        yield attacked


@pytest.fixture
async def attacked(tmp_path: Path) -> AsyncIterator[Attacked]:
    async with attacked_in(tmp_path) as attacked:
        yield attacked


def needs_groups(kind: str, tmp_path: Path) -> None:
    """Skips where this machine cannot bound that; the status of the runtime says so too."""
    groups = Groups.find(tmp_path / "probe")
    missing = [one for one in groups.missing if kind in one]
    groups.close()
    if missing:
        pytest.skip(missing[0])


def sleepers(mark: str) -> list[str]:
    """Processes that were started with `sleep MARK`."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "cmdline").read_text() == f"sleep\0{mark}\0":
                found.append(entry.name)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_fork_bomb_meets_its_limit_and_ends_with_the_plugin(attacked: Attacked, tmp_path: Path) -> None:
    needs_groups("processes", tmp_path)
    mark, refused = f"{3600 + os.getpid()}.5", tmp_path / "refused"
    async with attacked.host.run(f"bomb {mark} {refused}", HOSTILE) as run:
        await run.until("progress")
        pid = (await attacked.plugin()).pid
        await until(refused.exists)
        assert 0 < len(sleepers(mark)) < 64
        await attacked.neighbour_answers()
        # What a plugin does that cannot have another thread: gRPC breaks off, or waits for one without end.
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGABRT)
        failure = await run.failure()
    assert failure.reason == "RUNNER_CRASHED"
    assert "met its limit of 64 processes" in failure.message
    await until(lambda: not sleepers(mark))
    await attacked.answers_again()


async def test_a_process_that_detached_itself_ends_with_the_plugin(attacked: Attacked, tmp_path: Path) -> None:
    needs_groups("processes", tmp_path)
    async with attacked.host.run("detach", HOSTILE) as run:
        pid = int((await run.until("progress")).progress.text)
        assert alive(pid)
        os.kill((await attacked.plugin()).pid, 9)
        assert (await run.failure()).reason == "RUNNER_CRASHED"
    await until(lambda: not alive(pid))
    await attacked.answers_again()


async def test_a_plugin_that_grows_over_its_memory_is_told_so(attacked: Attacked, tmp_path: Path) -> None:
    needs_groups("memory", tmp_path)
    async with attacked.host.run("eat", HOSTILE) as run:
        failure = await run.failure()
    assert failure.reason == "RUNNER_CRASHED"
    assert "met its memory limit of 128 MB" in failure.message
    await attacked.neighbour_answers()
    await attacked.answers_again()


async def test_a_log_that_is_filled_without_end_holds_up_nobody(attacked: Attacked) -> None:
    async with attacked.host.run("shout", HOSTILE) as run:
        await run.until("progress")
        for _ in range(20):
            await attacked.neighbour_answers()
        request = runtime_pb2.TailPluginLogsRequest(plugin_id="test/hostile", lines=2000, once=True)
        lines = [line async for line in attacked.stub.TailPluginLogs(request)]
        assert 0 < len(lines) <= 2000
        assert sum(len(line.line) for line in lines) <= 1024 * 1024
        await attacked.recycle()
    await attacked.answers_again()


async def test_a_plugin_that_closes_its_sockets_is_replaced(attacked: Attacked) -> None:
    async with attacked.host.run("close_socket", HOSTILE) as run:
        assert (await run.failure()).reason == "RUNNER_CRASHED"
    await attacked.neighbour_answers()
    await until_answers(attacked)


async def test_files_run_out_for_the_plugin_alone(attacked: Attacked) -> None:
    assert (await attacked.host.finished("open_all", HOSTILE)).message == "True Too many open files"
    await attacked.neighbour_answers()
    await attacked.answers_again()


@pytest.mark.parametrize("word", ["deaf", "stuck"])
async def test_a_plugin_that_hears_nothing_is_replaced_by_force(attacked: Attacked, word: str) -> None:
    async with attacked.host.run(word, HOSTILE) as run:
        await run.until("progress")
        pid = (await attacked.plugin()).pid
        await attacked.recycle()
        await attacked.answers_again()
        await attacked.neighbour_answers()
        await until(lambda: not alive(pid))


async def test_a_plugin_whose_loop_stands_still_is_ended_without_being_asked_for(tmp_path: Path) -> None:
    async with attacked_in(tmp_path, hung_seconds=2.0) as attacked:
        async with attacked.host.run("stuck", HOSTILE) as run:
            failure = await run.failure()
        assert failure.reason == "RUNNER_CRASHED"
        assert "gave no sign of life for 2 seconds" in failure.message
        await attacked.answers_again()


async def test_nobody_else_gets_into_a_plugins_socket_and_no_cookie_lies_about(attacked: Attacked) -> None:
    assert (await attacked.host.finished("dial", HOSTILE)).message == "1 0 UNAUTHENTICATED"
    await attacked.neighbour_answers()


async def test_a_plugin_has_no_descriptor_but_its_own_and_leaves_no_core(attacked: Attacked) -> None:
    found = (await attacked.host.finished("descriptors", HOSTILE)).message.split()
    assert found[0] == "0"
    foreign = [one for one in found[1:] if one not in ("/dev/null", "anon_inode", "pipe", "socket")]
    # The listing of descriptors is one itself, and its name is the plugin's own.
    assert all(one.startswith("/proc/") for one in foreign), found


async def test_a_socket_that_was_taken_over_is_not_used(attacked: Attacked) -> None:
    async with attacked.host.run("listen", HOSTILE) as run:
        assert (await run.failure()).reason == "RUNNER_CRASHED"
    await attacked.answers_again()


async def until_answers(attacked: Attacked) -> None:
    """Until it was noticed that the process hears nobody any more."""
    async with asyncio.timeout(60):
        while True:
            async with attacked.host.run("ok again", HOSTILE) as run:
                try:
                    await run.until_end()
                except Exception:  # noqa: BLE001 - whatever it says, it is asked again
                    continue
            return
