"""Plugins in three languages side by side: start, memory, text deltas, and runs that ask the host something.

    .venv/bin/python -m bench.languages [--quick | --full]

The runtime runs alone and the benchmark is its host. Go and TypeScript are the examples of clients/examples, built
first; Python is a fork with the SDK. Floors: starting a bare Python and its memory, a bare server that streams one
message a delta, and bare round trips of as many callers.
"""

import asyncio
import os
import shutil
import signal
import statistics
import sys
from pathlib import Path
from typing import Any

import uvloop

from bench.kit import floor, machine
from bench.kit.alone import Alone, runtime_with
from bench.kit.rows import Options, Row, at_most, read_options, tell
from bench.plugin_start import bare_python, is_there, pids
from bench.relay import rate, timed
from portway.rpc.channel import PortwayChannel, open_channel
from portway.v1 import run_agent_pb2 as pb
from portway.v1 import run_call_pb2, run_pull_pb2
from tests.contracts.runner.built import built_go, built_node

ROUNDS, RUNS, AT_ONCE = 3, 16, 32
STARTS = 5
SETTLE_SECONDS = 1.0
FLOOR_BYTES = 80
BEHAVE = Path(__file__).parents[1] / "tests" / "runtime" / "plugin_folders" / "behave"
_RUN_AGENT = "/portway.v1.RuntimeService/RunAgent"


async def play(channel: PortwayChannel, runner_id: str, text: str, results: int) -> None:
    """A run to its end, its calls answered with an empty page. Raises where not exactly so many results came well."""
    call: Any = channel.stream_stream(_RUN_AGENT)()
    start = pb.RunStart(runner_id=runner_id)
    start.context.run_id = "run_bench"
    start.context.input.text = text
    await call.write(pb.RunAgentRequest(frames=[pb.RunInputFrame(start=start)]).SerializeToString())
    last = pb.RunOutputFrame()
    count = 0
    async for raw in call:
        for frame in pb.RunAgentResponse.FromString(raw).frames:
            if frame.HasField("call"):
                page = run_pull_pb2.PageHistoryResponse()
                answer = run_call_pb2.RunAnswer(call_id=frame.call.call_id, page_history=page)
                message = pb.RunAgentRequest(frames=[pb.RunInputFrame(answer=answer)])
                await call.write(message.SerializeToString())
            else:
                count, last = count + 1, frame
    if count != results or not last.result.HasField("run_completed"):
        raise AssertionError(f"{runner_id}, {text}: {count} results, the last {last.result}")


async def starts(channel: PortwayChannel, runner_id: str) -> tuple[list[float], float]:
    """Seconds from nothing to an answer, each after a kill; and the memory of the last process."""
    seconds = []
    for _ in range(STARTS):
        for pid in await pids(channel):
            os.kill(pid, signal.SIGKILL)
            while is_there(pid):  # noqa: ASYNC110 - nothing tells of the end of a process that is not ours
                await asyncio.sleep(0)
        seconds.append(await timed(lambda: play(channel, runner_id, "ok hello", 2)))
    await asyncio.sleep(SETTLE_SECONDS)
    return seconds, max(machine.memory(pid)[0] for pid in await pids(channel))


async def measure(alone: Alone, bare: str, language: str, runner_id: str, options: Options) -> list[Row]:
    count, runs = options.pick(100_000, 500_000), options.pick(500, 3_000)
    async with open_channel(alone.address, token=alone.token) as channel, floor.dial(bare) as echo:
        seconds, memory = await starts(channel, runner_id)
        bare_flood, one, many = [], [], []

        async def sixteen() -> None:
            each = count // RUNS
            await asyncio.gather(*(play(channel, runner_id, f"flood {each}", each + 1) for _ in range(RUNS)))

        for _ in range(ROUNDS):
            bare_flood.append(await floor.flood_rate(echo, FLOOR_BYTES, count // 5))
            one.append(count / await timed(lambda: play(channel, runner_id, f"flood {count}", count + 1)))
            many.append(count // RUNS * RUNS / await timed(sixteen))
        asked = await rate(lambda: play(channel, runner_id, "history 5", 2), AT_ONCE, runs)
        unary = floor.unary_of(echo)
        asked_floor = await rate(lambda: unary(floor.request_of(200, 200)), AT_ONCE, runs)
    begin, least = bare_python()
    median = statistics.median(seconds) * 1000
    flood = statistics.median(bare_flood)
    return [
        Row(f"{language}: start to the first answer, median of {STARTS}", median, "ms", begin * 1000),
        Row(f"{language}: memory after it (PSS)", memory, "MiB", least, _memory_goal(language, memory)),
        Row(f"{language}: text deltas, one run", statistics.median(one), "/s", flood),
        Row(f"{language}: text deltas over {RUNS} runs", statistics.median(many), "/s", flood),
        Row(f"{language}: runs with one call to the host, {AT_ONCE} at once", asked, "/s", asked_floor),
    ]


def _memory_goal(language: str, memory: float) -> Any:
    return at_most(memory, 25, "MiB") if language == "Python" else None


def plugins() -> list[tuple[str, Path, str]]:
    """What can be measured here; what cannot is told."""
    found = [("Python", BEHAVE, "plugin:test/behave/default")]
    for language, programs, build, runner_id in (
        ("Go", ("go", "make"), built_go, "plugin:examples/echo-go/conformance"),
        ("TypeScript", ("node", "npm", "make"), built_node, "plugin:examples/echo-node/conformance"),
    ):
        missing = [name for name in programs if shutil.which(name) is None]
        if missing:
            print(f"{language} is not measured: {', '.join(missing)} is not on the PATH", flush=True)
        else:
            found.append((language, build(), runner_id))
    return found


def main() -> int:
    options = read_options(__doc__)
    cores = machine.all_but_one()
    print(f"the runtime alone; {cores}", flush=True)
    rows: list[Row] = []
    with floor.bare_server(cores.server) as bare:
        for language, folder, runner_id in plugins():
            with runtime_with(folder) as alone:
                machine.pin(alone.pid, cores.server)
                rows += uvloop.run(measure(alone, bare, language, runner_id, options))
    tell(rows, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
