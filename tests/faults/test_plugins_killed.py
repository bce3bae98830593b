"""Plugins, their runtime and their host are killed amid runs, in a whole installation: what was hit fails with its
code, what was not goes on, and what comes next works. Times are printed, and only bounded so that nothing hangs."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from portway.clients.host import Portway
from portway.clients.runtime import Runtime
from portway.v1 import run_pb2, runtime_pb2
from tests.e2e.stack import Stack, alive, started, until
from tests.runtime.conftest import PLUGIN_FOLDERS
from tests.waiting import until_told

SECONDS = 60
ROUNDS = 5
WORDS = " ".join(f"word-{number}" for number in range(2000))
COMPLETED, FAILED = run_pb2.RUN_STATE_COMPLETED, run_pb2.RUN_STATE_FAILED
CONFIG = """
runtime:
  plugins: [{folder}]
host:
  limits: {{stop_grace: 1}}
agents:
- {{agent_id: hit, runner_id: "plugin:test/behave/default", on_interrupted: {interrupted}}}
- {{agent_id: spared, runner_id: "plugin:test/spared/default", on_interrupted: {interrupted}}}
"""


@asynccontextmanager
async def installed(folder: Path, interrupted: str = "FAIL") -> AsyncIterator[Stack]:
    """An installation with two plugins that do what the first word of a message says."""
    for name in ("behave", "spared"):
        plugin = shutil.copytree(PLUGIN_FOLDERS / "behave", folder / "plugins" / name)
        manifest = plugin / "manifest.yaml"
        manifest.write_text(manifest.read_text().replace("name: behave", f"name: {name}"))
    config = CONFIG.format(folder=folder / "plugins", interrupted=f"INTERRUPTED_POLICY_{interrupted}")
    async with started(folder, config=config) as stack:
        yield stack


async def plugin(stack: Stack, name: str = "behave") -> runtime_pb2.Plugin:
    async with Runtime(str(stack.ready["runtime"]), token=stack.token) as runtime:
        page = await runtime.list_plugins()
    return next(one for one in page.plugins if one.plugin_id == f"test/{name}")


async def ended(host: Portway, run_id: str) -> run_pb2.Run:
    async with asyncio.timeout(SECONDS):
        async for _ in host.runs.watch(run_id):
            pass
        return await host.runs.get(run_id)


async def until_it_speaks(host: Portway, run_id: str) -> None:
    async with asyncio.timeout(SECONDS):
        async for event in host.runs.watch(run_id):
            if event.HasField("message_delta") or event.HasField("progress"):
                return
    raise AssertionError(f"{run_id} ended without a word")


async def answered(host: Portway, agent: str, text: str, conversation: str) -> run_pb2.Run:
    accepted = await host.send(text, conversation_id=conversation, agent_id=agent)
    return await ended(host, accepted.run_id)


async def kill_amid_a_run(stack: Stack, host: Portway, number: int) -> tuple[float, float, int]:
    """Seconds from the kill to the end of the run and to the next answer, and how many neighbours completed."""
    victim = await host.send("hang", conversation_id=f"hit {number}", agent_id="hit")
    await until_it_speaks(host, victim.run_id)
    pid = (await plugin(stack)).pid
    spared = [
        await host.send(f"streamed {WORDS}", conversation_id=f"spared {number} {one}", agent_id="spared")
        for one in range(4)
    ]
    await until_it_speaks(host, spared[0].run_id)
    os.kill(pid, signal.SIGKILL)
    begun = time.monotonic()
    failed = await ended(host, victim.run_id)
    to_the_end = time.monotonic() - begun
    assert (failed.state, failed.error.code) == (FAILED, "runner.crashed"), failed
    again = await answered(host, "hit", "ok again", f"again {number}")
    to_the_next = time.monotonic() - begun
    assert again.state == COMPLETED, again
    untouched = [await ended(host, one.run_id) for one in spared]
    assert all(run.attempt == 1 for run in untouched), untouched
    assert not alive(pid)
    return to_the_end, to_the_next, sum(run.state == COMPLETED for run in untouched)


async def test_a_killed_plugin_fails_its_run_alone_and_the_next_one_works(tmp_path: Path) -> None:
    async with installed(tmp_path) as stack, stack.client() as host:
        assert (await answered(host, "spared", "ok warm", "warm")).state == COMPLETED
        found = [await kill_amid_a_run(stack, host, number) for number in range(ROUNDS)]
    ends, nexts, spared = zip(*found, strict=True)
    print(f"from the kill to the end of the run: {sorted(f'{one:.2f}' for one in ends)} s")
    print(f"from the kill to the next answer: {sorted(f'{one:.2f}' for one in nexts)} s")
    assert sum(spared) == 4 * ROUNDS
    assert max(nexts) < SECONDS / 2


async def test_a_plugin_that_is_killed_again_and_again_slows_down_nobody_else(tmp_path: Path) -> None:
    """Crashes without good work in between are followed by pauses; the neighbour has none of them."""
    async with installed(tmp_path) as stack, stack.client() as host:
        codes = [(await answered(host, "hit", "crash", f"crash {n}")).error.code for n in range(4)]
        assert set(codes) <= {"runner.crashed", "runner.unavailable"} and codes[0] == "runner.crashed"
        done = [await answered(host, "spared", "ok fine", f"fine {n}") for n in range(10)]
        assert sum(run.state == COMPLETED for run in done) == 10
        async with asyncio.timeout(SECONDS):
            while (await answered(host, "hit", "ok back", "back")).state != COMPLETED:
                pass


@pytest.mark.parametrize("part", ["runtime", "host"])
async def test_nothing_of_a_plugin_is_left_when_its_runtime_or_host_is_killed(tmp_path: Path, part: str) -> None:
    async with installed(tmp_path) as stack:
        async with stack.client() as host:
            accepted = await host.send("orphan", conversation_id="orphan", agent_id="hit")
            await until_it_speaks(host, accepted.run_id)
            before = await plugin(stack)
        old = await stack.kill(part)
        await stack.restarted(part, old)
        async with stack.client() as host:
            run = await ended(host, accepted.run_id)
            assert run.state == FAILED, run
            assert (await answered(host, "hit", "ok back", "back")).state == COMPLETED
            assert (await answered(host, "spared", "ok back", "spared")).state == COMPLETED
        after = await plugin(stack)
        assert after.run_count == 0
        if part == "runtime":
            assert not alive(before.pid) and after.pid != before.pid


async def test_runs_of_a_killed_host_begin_again_in_the_process_that_is_there(tmp_path: Path) -> None:
    async with installed(tmp_path, interrupted="RETRY") as stack:
        async with stack.client() as host:
            accepted = await host.send("hang", conversation_id="hang", agent_id="hit")
            await until_it_speaks(host, accepted.run_id)
            before = await plugin(stack)
        await stack.restarted("host", await stack.kill("host"))
        async with stack.client() as host:

            async def begun_again() -> bool:
                # The run of the host that is gone has ended: the process holds the new attempt alone.
                run = await host.runs.get(accepted.run_id)
                return run.attempt == 2 and (await plugin(stack)).run_count == 1

            await until_told(begun_again)
            assert (await plugin(stack)).pid == before.pid
            await host.runs.cancel(accepted.run_id, "enough")
            assert (await ended(host, accepted.run_id)).state == run_pb2.RUN_STATE_CANCELLED


async def test_no_process_is_left_when_everything_is_killed(tmp_path: Path) -> None:
    async with installed(tmp_path) as stack:
        async with stack.client() as host:
            accepted = await host.send("orphan", conversation_id="orphan", agent_id="hit")
            await until_it_speaks(host, accepted.run_id)
        pids = [*below(stack.pid("runtime")), stack.pid("runtime")]
        assert len(pids) >= 5, "the runtime, its fork server, the plugin and its two children"
        stack.process.kill()
        await stack.process.wait()
        await until(lambda: not any(alive(pid) for pid in pids), "the runtime and what it started to be gone")


def below(pid: int) -> list[int]:
    """Every descendant of a process."""
    children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [one for child in children for one in below(child)]
