"""The clock of the host's machine is set forward and back by an hour: nothing is lost, doubled, ended or held up.

The host runs with libfaketime before it, which reads its offset from a file at every look at the clock. Time that
passes (the monotonic clock) goes on as it does on a machine whose clock is set.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from portway.v1 import run_pb2
from tests.fakes.runtime_server import FakeRun, FakeRuntime, answer_hello, serve_fake_runtime
from tests.faults.host_process import SECONDS, HostProcess, ended, said, serving, submit
from tests.waiting import until

HOUR = 3600
STEPS = (HOUR, 0, -HOUR, HOUR, 0)
COMPLETED = run_pb2.RUN_STATE_COMPLETED
_LIBRARY = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
_SCHEDULE = """
schedules:
- {schedule_id: minutely, cron: "* * * * *", agent_id: assistant, overlap: OVERLAP_POLICY_ALLOW,
   catch_up: CATCH_UP_POLICY_ALL, catch_up_limit: 1000}
"""
pytestmark = pytest.mark.skipif(
    _LIBRARY is None,
    reason="libfaketime is not installed (apt-get install libfaketime): clock steps are NOT tested here",
)


class SteppedHost:
    def __init__(self, folder: Path, runtime: FakeRuntime) -> None:
        self._offset = folder / "offset"
        self.step(0)
        environment = {
            "LD_PRELOAD": str(_LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.process = HostProcess(folder, runtime, environment=environment)
        config = folder / "portway.yaml"
        config.write_text(config.read_text() + _SCHEDULE)

    def step(self, seconds: int) -> None:
        """From now on the clock is so far from the true one. In one step: it is never read half-written."""
        written = self._offset.with_suffix(".new")
        written.write_text(f"{seconds:+d}\n")
        written.rename(self._offset)

    def fired(self) -> list[int]:
        """The times of the events of the schedule, past the host."""
        with closing(sqlite3.connect(f"file:{self.process.database}?mode=ro", uri=True)) as connection:
            found = connection.execute("SELECT event_time FROM events WHERE type = 'schedule.triggered'")
            return [time for (time,) in found]


@asynccontextmanager
async def stepped_host(folder: Path) -> AsyncIterator[tuple[SteppedHost, FakeRuntime]]:
    async with serve_fake_runtime(FakeRuntime()) as runtime:
        stepped = SteppedHost(folder, runtime)
        async with serving(stepped.process):
            yield stepped, runtime


async def test_a_run_under_way_outlives_every_step(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def waits(run: FakeRun) -> None:
        await run.say("half ")
        await go_on.wait()
        await answer_hello(run)

    async with stepped_host(tmp_path) as (stepped, runtime):
        runtime.script = waits
        process = stepped.process
        async with process.client() as host:
            first = await submit(host, "first", "key-first", "chat")
            await until(lambda: len(runtime.runs) == 1)
            for number, seconds in enumerate(STEPS):
                stepped.step(seconds)
                # Something else goes all the way meanwhile: the host has seen the new time.
                other = await submit(host, "other", f"key-{number}", f"chat-{number}")
                await until(lambda number=number: len(runtime.runs) >= number + 2)  # type: ignore[misc]
            go_on.set()
        run = await ended(process, first.run_id)
        assert (run.state, run.attempt) == (COMPLETED, 1), run
        assert (await ended(process, other.run_id)).state == COMPLETED
        assert await said(process, first.conversation_id) == [("message", "hello, first")]


async def test_what_is_accepted_over_steps_and_restarts_is_there_once_and_in_order(tmp_path: Path) -> None:
    async with stepped_host(tmp_path) as (stepped, _):
        process = stepped.process
        accepted = []
        for number, seconds in enumerate(STEPS):
            stepped.step(seconds)
            async with process.client() as host:
                accepted += [await submit(host, f"m{number}-{n}", f"key-{number}-{n}", "chat") for n in range(4)]
            # Leases and epochs of the last life may lie in the future of this one.
            await process.restart()
            for one in accepted:
                assert (await ended(process, one.run_id)).state == COMPLETED
        texts = [text for _, text in await said(process, accepted[0].conversation_id)]
        assert texts == [f"hello, m{number}-{n}" for number in range(len(STEPS)) for n in range(4)]
        async with process.client() as host:
            again = await submit(host, "m0-0", "key-0-0", "chat")
        assert again.duplicate and again.event_id == accepted[0].event_id
        with closing(sqlite3.connect(process.database)) as connection:
            sequences = connection.execute(
                "SELECT sequence FROM events WHERE type = 'message.received' ORDER BY sequence"
            ).fetchall()
        assert len(sequences) == len(accepted)


@pytest.mark.heavy
async def test_a_schedule_fires_each_time_once_and_does_not_wait_for_a_clock_that_was_set_back(tmp_path: Path) -> None:
    async with stepped_host(tmp_path) as (stepped, _):
        stepped.step(HOUR)

        async with asyncio.timeout(SECONDS):
            while len(stepped.fired()) < 60:  # noqa: ASYNC110 - another process makes them
                await asyncio.sleep(0.05)
        stepped.step(0)
        async with stepped.process.client() as host:
            accepted = await submit(host, "hello", "key", "chat")
        assert (await ended(stepped.process, accepted.run_id)).state == COMPLETED
        stepped.step(HOUR)
        async with stepped.process.client() as host:
            await submit(host, "hello", "key-2", "chat")
        times = stepped.fired()
        assert len(times) == len(set(times)) and len(times) >= 60
