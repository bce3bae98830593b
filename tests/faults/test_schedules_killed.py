"""A host that is killed at any moment: every time of a schedule has one event, and none is lost."""

import asyncio
import random
import sqlite3
import time
from pathlib import Path

from portway.rpc.errors import PortwayError
from portway.v1 import event_pb2
from tests.fakes.runtime_server import FakeRuntime, serve_fake_runtime
from tests.faults.host_process import HostProcess, serving

TIMES = 40
KILLS = 6
SEED = 20260101
_SCHEDULE = """
schedules:
- {schedule_id: minutely, cron: "* * * * *", agent_id: assistant, overlap: OVERLAP_POLICY_ALLOW,
   catch_up: CATCH_UP_POLICY_ALL, catch_up_limit: 100}
"""


def put_back(folder: Path, minutes: int) -> list[int]:
    """As if the host had been away for so long; answers the times that it missed, in microseconds."""
    minute = int(time.time()) // 60 * 60
    first = (minute - minutes * 60) * 1_000_000
    with sqlite3.connect(folder / "data" / "portway.db") as database:
        changed = database.execute("UPDATE schedules SET next_time = ? WHERE schedule_id = 'minutely'", (first,))
        assert changed.rowcount == 1
    return [first + number * 60_000_000 for number in range(minutes + 1)]


async def fired(process: HostProcess) -> list[int]:
    """The times of all its events, oldest first."""
    async with process.client() as host:
        page = await host.events.ListEvents(
            event_pb2.ListEventsRequest(types=["schedule.triggered"], page_size=200), timeout=10
        )
        found = []
        for summary in reversed(page.events):
            answer = await host.events.GetEvent(event_pb2.GetEventRequest(event_id=summary.event_id), timeout=10)
            found.append(answer.event.event_time.ToMicroseconds())
    return found


async def test_every_missed_time_is_made_up_for_once_whenever_the_host_is_killed(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    async with serve_fake_runtime(FakeRuntime()) as runtime:
        process = HostProcess(tmp_path, runtime)
        file = tmp_path / "portway.yaml"
        file.write_text(file.read_text() + _SCHEDULE)
        async with serving(process):
            await process.kill()
            wanted = put_back(tmp_path, TIMES)
            for _ in range(KILLS):
                await process.start()
                await asyncio.sleep(chance.uniform(0.0, 0.05))
                await process.kill()
            await process.start()
            async with asyncio.timeout(120):
                while True:
                    try:
                        found = await fired(process)
                    except PortwayError:
                        found = []
                    if set(wanted) <= set(found):
                        break
                    await asyncio.sleep(0.05)
            assert len(found) == len(set(found))
            assert found == sorted(found)
            await process.restart()
            assert [at for at in await fired(process) if at <= wanted[-1]] == wanted
