"""An event at each point of its way to the disk: asked again, it is there exactly once, and nobody is told more.

A lock on the database's file holds the host exactly before the disk; a network that loses the answer, behind it.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest

from portway.rpc.errors import PortwayError
from portway.v1 import event_pb2, run_pb2
from tests.fakes.cutting_proxy import cutting_proxy
from tests.fakes.runtime_server import FakeRun, FakeRuntime, serve_fake_runtime
from tests.faults.host_process import HostProcess, ended, said, serving, submit
from tests.waiting import until

COMPLETED = run_pb2.RUN_STATE_COMPLETED
OPEN_RUNS = 60


@asynccontextmanager
async def a_host(folder: Path) -> AsyncIterator[tuple[HostProcess, FakeRuntime]]:
    async with serve_fake_runtime(FakeRuntime()) as runtime, serving(HostProcess(folder, runtime)) as process:
        yield process, runtime


@contextmanager
def locked(process: HostProcess) -> Iterator[None]:
    """Nobody else can write meanwhile."""
    with closing(sqlite3.connect(process.database, isolation_level=None, timeout=30)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def keys(process: HostProcess) -> list[str]:
    """What is in the log, past the host."""
    with closing(sqlite3.connect(f"file:{process.database}?mode=ro", uri=True)) as connection:
        return [key for (key,) in connection.execute("SELECT dedupe_key FROM events ORDER BY sequence")]


async def settles(process: HostProcess, key: str) -> event_pb2.SubmitEventResponse:
    """Asked again it is taken, or known; its run ends with one reply."""
    async with process.client() as host:
        answer = await submit(host, "hello", key, "chat")
    assert (await ended(process, answer.run_id)).state == COMPLETED
    assert keys(process) == [key]
    assert await said(process, answer.conversation_id) == [("message", "hello, hello")]
    return answer


async def test_killed_before_it_is_on_disk(tmp_path: Path) -> None:
    async with a_host(tmp_path) as (process, _):
        with locked(process):
            async with process.client() as host:
                asking = asyncio.ensure_future(submit(host, "hello", "key-before", "chat"))
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(asking), 0.5)
                await process.kill()
                with pytest.raises(PortwayError):
                    await asking
        assert keys(process) == []
        await process.start()
        assert not (await settles(process, "key-before")).duplicate


@pytest.mark.parametrize("arrives", [False, True], ids=["the question", "the answer"])
async def test_what_is_lost_on_the_way_is(tmp_path: Path, arrives: bool) -> None:
    """Followed by a kill: the answer that was lost was for something on disk."""
    async with a_host(tmp_path) as (process, _):
        with cutting_proxy(process.port) as network:
            network.cut_at(b"key-cut", pass_it_on=arrives, tell=False)
            async with process.client(network.port) as host:
                with pytest.raises(PortwayError):
                    await submit(host, "hello", "key-cut", "chat")
            assert network.cuts == 1
            if arrives:
                await until(lambda: keys(process) == ["key-cut"])
        await process.restart()
        assert keys(process) == (["key-cut"] if arrives else [])
        assert (await settles(process, "key-cut")).duplicate == arrives


async def test_killed_while_it_settles_a_run(tmp_path: Path) -> None:
    """The runner has said everything, and nothing of it is on disk yet."""
    at_the_end, may_end = asyncio.Event(), asyncio.Event()

    async def answers(run: FakeRun) -> None:
        at_the_end.set()
        await may_end.wait()
        await run.answer(f"hello, {run.context.input.text}")

    async with a_host(tmp_path) as (process, runtime):
        runtime.script = answers
        async with process.client() as host:
            await submit(host, "hello", "key-settle", "chat")
        await at_the_end.wait()
        with locked(process):
            may_end.set()
            await until(lambda: runtime.runs[0].sequence == 2)
            # Longer than a commit takes, and nothing could be committed.
            await asyncio.sleep(0.3)
            await process.kill()
        await process.start()
        assert (await settles(process, "key-settle")).duplicate
        assert len(runtime.runs) == 2


async def test_a_database_that_stays_locked_is_never_an_ok(tmp_path: Path) -> None:
    async with a_host(tmp_path) as (process, _):
        with locked(process):
            async with process.client() as host:
                for _ in range(2):
                    with pytest.raises(PortwayError):
                        await submit(host, "hello", "key-locked", "chat")
            assert keys(process) == []
        # Without a restart: what could not be written did not break what writes.
        await settles(process, "key-locked")
        assert process.starts == 1


async def test_killed_in_every_part_of_its_start_with_work_left(tmp_path: Path) -> None:
    async with a_host(tmp_path) as (process, runtime):

        async def never(run: FakeRun) -> None:
            await asyncio.Event().wait()

        runtime.script = never
        async with process.client() as host:
            accepted = [await submit(host, f"n{n}", f"key-{n}", f"chat-{n % 12}") for n in range(OPEN_RUNS)]
        await process.kill()
        for number in range(10):
            await process.begin()
            # From before its first line to after its recovery, in steps.
            await asyncio.sleep(0.15 * number)
            await process.kill()
        runtime.script = FakeRuntime().script
        await process.start()
        runs = [await ended(process, one.run_id) for one in accepted]
        # Some were begun by several starts, and may be given up after three: with a notice, never twice.
        completed = [run for run in runs if run.state == COMPLETED]
        print(f"{len(completed)} of {len(runs)} completed, {process.starts} starts")
        assert len(completed) >= OPEN_RUNS - 36, runs
        assert keys(process) == [f"key-{n}" for n in range(OPEN_RUNS)]
        for conversation_id in {run.conversation_id for run in runs}:
            ends = [kind for kind, _ in await said(process, conversation_id)]
            assert len(ends) == OPEN_RUNS // 12
