"""A runner that floods a host which does not read is held up where it is: nobody between them keeps what it says."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from portway.v1 import runtime_pb2
from tests.runtime.test_processes import RuntimeProcess
from tests.waiting import PATIENCE

# About 150 MB of frames, far more than any window on the way.
DELTAS = 3_000_000
MEGABYTE = 1024 * 1024
MOST_KEPT = 48 * MEGABYTE
# A process that used no processor time for so many looks waits for something.
STILL_LOOKS, LOOK_SECONDS = 6, 0.05


@pytest.fixture
def process(tmp_path: Path) -> Iterator[RuntimeProcess]:
    runtime = RuntimeProcess(tmp_path)
    yield runtime
    if runtime.process is not None:
        runtime.process.kill()
        runtime.process.communicate()


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def ticks(pid: int) -> int:
    """Processor time that it used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


async def until_still(pid: int) -> None:
    async with asyncio.timeout(3 * PATIENCE):
        still, before = 0, ticks(pid)
        while still < STILL_LOOKS:
            await asyncio.sleep(LOOK_SECONDS)
            now = ticks(pid)
            still, before = (still + 1 if now == before else 0), now


async def test_a_flood_against_a_host_that_does_not_read_is_held_up_at_its_source(process: RuntimeProcess) -> None:
    async with process.serving() as (host, stub):
        await host.finished("flood 20000")
        request = runtime_pb2.GetPluginRequest(plugin_id="test/behave")
        worker = (await stub.GetPlugin(request)).plugin.pid
        assert process.process is not None
        runtime = process.process.pid
        before = {pid: resident(pid) for pid in (runtime, worker)}
        async with host.run(f"flood {DELTAS}") as run:
            await run.until("message_delta")
            await until_still(worker)
            grown = {pid: resident(pid) - size for pid, size in before.items()}
            print({pid: f"{size / MEGABYTE:.1f} MB" for pid, size in grown.items()})
            assert max(grown.values()) < MOST_KEPT
            # Others are served meanwhile, by the same plugin too.
            assert (await host.finished("ok beside")).message == "beside"
            # The cancel overtakes what waits: it has a direction of its own.
            await run.cancel("too much")
            await run.until_end()
        assert run.error.code == "cancelled"
        assert len(run.results) < DELTAS
        assert (await host.finished("ok afterwards")).message == "afterwards"


async def test_a_cancel_reaches_a_runner_at_once_while_another_floods(process: RuntimeProcess) -> None:
    async with process.serving() as (host, _stub):
        taken = []
        async with host.run(f"flood {DELTAS}") as flood:
            await flood.until("message_delta")
            reading = asyncio.ensure_future(flood.until_end())
            for _ in range(10):
                async with host.run("hang") as run:
                    await run.until("message_delta")
                    begun = time.monotonic()
                    await run.cancel()
                    await run.until_end()
                    taken.append(time.monotonic() - begun)
                assert run.error.code == "cancelled"
            await flood.cancel()
            await reading
        print(f"from the cancel to the end of the run, ms: {[round(one * 1000, 1) for one in sorted(taken)]}")
        assert flood.error.code == "cancelled" or len(flood.results) == DELTAS + 1
