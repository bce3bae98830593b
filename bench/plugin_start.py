"""Starting plugins: from the first run of one that is not running to its answer, after a crash, and the memory of each.

    .venv/bin/python -m bench.plugin_start [--quick | --full]

The runtime runs alone and the benchmark is its host. Plugins in Python are forks of a loaded parent; a program of its
own stands for other languages, here a Python with gRPC. Floors: starting a bare Python, and its memory.
"""

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from bench.kit import machine
from bench.kit.alone import Alone, run, runtime_with, write_plugin
from bench.kit.rows import Options, Row, at_most, read_options, tell
from portway.rpc.channel import PortwayChannel, open_channel
from portway.v1 import runtime_pb2, runtime_pb2_grpc
from tests.runtime.environments.wheels import make_wheel

PROGRAM = Path(__file__).parents[1] / "tests" / "contracts" / "runner" / "plugins" / "raw" / "worker.py"
BARE = "import time; print(flush=True); time.sleep(60)"
SETTLE_SECONDS = 1.0


async def pids(channel: PortwayChannel) -> list[int]:
    stub = runtime_pb2_grpc.RuntimeServiceStub(channel)
    page = await stub.ListPlugins(runtime_pb2.ListPluginsRequest(page_size=200))
    return [plugin.pid for plugin in page.plugins if plugin.pid]


async def seconds_of(channel: PortwayChannel, runner_id: str) -> float:
    begun = time.perf_counter()
    await run(channel, runner_id)
    return time.perf_counter() - begun


async def pid_of(channel: PortwayChannel, runner_id: str) -> int:
    stub = runtime_pb2_grpc.RuntimeServiceStub(channel)
    plugin_id = runner_id.removeprefix("plugin:").rpartition("/")[0]
    return (await stub.GetPlugin(runtime_pb2.GetPluginRequest(plugin_id=plugin_id))).plugin.pid


async def measure(alone: Alone, runners: list[str], program: str, with_packages: str) -> list[Row]:
    async with open_channel(alone.address, token=alone.token) as channel:
        await run(channel, runners[0])
        cold = [await seconds_of(channel, runner) for runner in runners[1:]]
        warm = [await seconds_of(channel, runner) for runner in runners * 3]
        await asyncio.sleep(SETTLE_SECONDS)
        found = await pids(channel)
        forks = [machine.memory(pid)[0] for pid in found]
        crashed = []
        for runner, pid in zip(runners, found, strict=False):
            os.kill(pid, signal.SIGKILL)
            while is_there(pid):  # noqa: ASYNC110 - nothing tells of the end of a process that is not ours
                await asyncio.sleep(0)
            crashed.append(await seconds_of(channel, runner))
        started = await seconds_of(channel, program)
        await asyncio.sleep(SETTLE_SECONDS)
        own = max(machine.memory(pid)[0] for pid in await pids(channel))
        made = await seconds_of(channel, with_packages)
        packaged = await pid_of(channel, with_packages)
        os.kill(packaged, signal.SIGKILL)
        while is_there(packaged):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        again = await seconds_of(channel, with_packages)
        await asyncio.sleep(SETTLE_SECONDS)
        size = machine.memory(await pid_of(channel, with_packages))[0]
    begin, memory = bare_python()
    return [
        _time(f"start of a plugin to its first answer, median of {len(cold)}", statistics.median(cold), begin, 100),
        _time("the same, slowest", max(cold), begin, None),
        _time("the same once it runs", statistics.median(warm), begin, None),
        _time("killed with SIGKILL, to the next answer", statistics.median(crashed), begin, 1000),
        _time("start of a program of its own (Python)", started, begin, None),
        _memory(f"memory of a plugin among {len(forks)} (PSS)", statistics.median(forks), memory, 25),
        _memory("memory of a program of its own (PSS)", own, memory, 35),
        _time("start with packages of its own, first use", made, begin, None),
        _time("the same again, after a kill", again, begin, None),
        _memory("memory of a plugin with packages of its own (PSS)", size, memory, 35),
    ]


async def measure_one(alone: Alone, runner: str) -> Row:
    async with open_channel(alone.address, token=alone.token) as channel:
        await run(channel, runner)
        await asyncio.sleep(SETTLE_SECONDS)
        size = max(machine.memory(pid)[0] for pid in await pids(channel))
    return _memory("memory of the only plugin (PSS)", size, bare_python()[1], 25)


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def bare_python() -> tuple[float, float]:
    """Seconds until a bare Python prints, and its PSS in MiB."""
    begun = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", BARE], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seconds = time.perf_counter() - begun
        size, _ = machine.memory(process.pid)
        process.kill()
    return seconds, size


def _time(what: str, seconds: float, floor: float, limit: float | None) -> Row:
    milliseconds = seconds * 1000
    goal = None if limit is None else at_most(milliseconds, limit, "ms")
    return Row(what, milliseconds, "ms", floor * 1000, goal)


def _memory(what: str, size: float, floor: float, limit: float) -> Row:
    return Row(what, size, "MiB", floor, at_most(size, limit, "MiB"))


def rows(options: Options) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="portway-bench-") as name:
        one, many = Path(name) / "one", Path(name) / "many"
        only = write_plugin(one, "only")
        runners = [write_plugin(many, f"number-{number}") for number in range(options.pick(5, 20))]
        program = write_plugin(many, "program", PROGRAM)
        with_packages = write_plugin(many, "packaged", packages=["little==1.0"])
        make_wheel(many / "packaged" / "wheels", "little")
        with runtime_with(one) as alone:
            found = [uvloop.run(measure_one(alone, only))]
        with runtime_with(many) as alone:
            return found + uvloop.run(measure(alone, runners, program, with_packages))


def main() -> int:
    options = read_options(__doc__)
    print("the runtime alone, all cores", flush=True)
    tell(rows(options), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
