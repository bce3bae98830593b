"""What the runtime takes of a run: text deltas from plugins to the host's end of the stream, runs, and calls of tools.

    .venv/bin/python -m bench.relay [--quick | --full]

The runtime runs alone and the benchmark is its host, so nothing is stored or shown. Floors: a bare server that streams
one message a delta, and bare round trips.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import uvloop

from bench.kit import floor, machine
from bench.kit.alone import Alone, run, runtime_with, write_plugin
from bench.kit.rows import Options, Row, at_least, at_most, read_options, tell
from portway.rpc.channel import PortwayChannel, open_channel
from portway.v1 import runtime_pb2, runtime_pb2_grpc

ROUNDS = 3
RUNS = 16
CALLERS = 16
FLOOR_BYTES = 80


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    begun = time.perf_counter()
    await work()
    return time.perf_counter() - begun


async def rate(work: Callable[[], Awaitable[object]], callers: int, count: int) -> float:
    """How often a second, with so many callers."""
    left = iter(range(count))

    async def caller() -> None:
        for _ in left:
            await work()

    return count / await timed(lambda: asyncio.gather(*(caller() for _ in range(callers))))


async def delta_rows(channel: PortwayChannel, echo: grpc.aio.Channel, runner: str, options: Options) -> list[Row]:
    count = options.pick(100_000, 500_000)
    bare, one, many = [], [], []

    async def sixteen() -> None:
        await asyncio.gather(*(run(channel, runner, count // RUNS) for _ in range(RUNS)))

    for _ in range(ROUNDS):
        bare.append(await floor.flood_rate(echo, FLOOR_BYTES, count // 5))
        one.append(count / await timed(lambda: run(channel, runner, count)))
        many.append(count / await timed(sixteen))
    floor_rate = statistics.median(bare)
    single, together = statistics.median(one), statistics.median(many)
    goal = at_least(single, 150_000, "/s")
    return [
        Row("text deltas, plugin → host's end, one run", single, "/s", floor_rate, goal, "none lost, in order"),
        Row(f"the same over {RUNS} runs of one plugin", together, "/s", floor_rate),
    ]


async def run_rows(channel: PortwayChannel, echo: grpc.aio.Channel, runner: str, options: Options) -> list[Row]:
    count = options.pick(500, 3_000)
    request = floor.request_of(200, 200)
    bare = await floor.round_trips(echo, request, count)
    alone = [await timed(lambda: run(channel, runner, 20)) for _ in range(count)]
    many = await rate(lambda: run(channel, runner, 20), 32, count)
    bare_rate = await rate(lambda: floor.unary_of(echo)(request), 32, count)
    return [
        Row("a run with 20 deltas, p50", _p50(alone), "ms", _p50(bare)),
        Row("runs with 20 deltas, 32 at once", many, "/s", bare_rate),
    ]


async def tool_rows(channel: PortwayChannel, echo: grpc.aio.Channel, options: Options) -> list[Row]:
    count = options.pick(1_000, 10_000)
    stub = runtime_pb2_grpc.RuntimeServiceStub(channel)
    request = runtime_pb2.RuntimeServiceCallToolRequest(name="bench/load/tool")
    request.arguments["text"] = "hello"

    async def call() -> None:
        answers = [answer async for answer in stub.CallTool(request)]
        if answers[-1].result.text != "hello":
            raise AssertionError(f"the tool answered {answers}")

    floor_request = floor.request_of(60, 40)
    bare = await floor.round_trips(echo, floor_request, count)
    alone = _p50([await timed(call) for _ in range(count)])
    many = await rate(call, CALLERS, count)
    bare_rate = await rate(lambda: floor.unary_of(echo)(floor_request), CALLERS, count)
    return [
        Row("plugin tool call, p50", alone, "ms", _p50(bare), at_most(alone, 0.8, "ms")),
        Row(f"plugin tool calls, {CALLERS} callers", many, "/s", bare_rate, at_least(many, 6_500, "/s")),
    ]


def _p50(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1000


async def measure(alone: Alone, bare: str, runner: str, options: Options) -> list[Row]:
    async with open_channel(alone.address, token=alone.token) as channel, floor.dial(bare) as echo:
        await run(channel, runner, 1_000)
        rows = await delta_rows(channel, echo, runner, options)
        rows += await run_rows(channel, echo, runner, options)
        return rows + await tool_rows(channel, echo, options)


def main() -> int:
    options = read_options(__doc__)
    cores = machine.all_but_one()
    print(f"the runtime alone; {cores}", flush=True)
    with tempfile.TemporaryDirectory(prefix="portway-bench-") as folder:
        runner = write_plugin(Path(folder), "load")
        with floor.bare_server(cores.server) as bare, runtime_with(Path(folder)) as alone:
            machine.pin(alone.pid, cores.server)
            machine.pin_self(cores.client)
            rows = uvloop.run(measure(alone, bare, runner, options))
    tell(rows, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
