"""Calls of a run to the host: on the run's own stream, on a session, and one by one.

    .venv/bin/python -m bench.pull [--quick | --full]

Each call reads a small state value, or a page of one message, and is checked and answered as any other. On the stream
and the session 64 are under way at once; the unary ones have 16 callers. Floors: a bare echo of messages of the same
sizes, one stream with 64 under way, and 16 unary callers.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import grpc
import uvloop

from bench.kit import floor, machine, runs
from bench.kit.rows import Options, Row, at_least, of_floor, read_options, tell
from bench.kit.stack import Stack, installation
from portway.clients.host import Portway
from portway.rpc.channel import PortwayChannel, open_channel
from portway.v1 import run_call_pb2, run_pull_pb2, run_result_pb2, runner_service_pb2_grpc

ROUNDS = 3
IN_FLIGHT, CALLERS = 64, 16
PACKED = 32
STATE = run_pull_pb2.GetStateRequest(scope=run_result_pb2.STATE_SCOPE_CONVERSATION, key="bench")
# Sizes of a call and an answer with a frame around them.
REQUEST_BYTES, ANSWER_BYTES = 24, 48

Rates = dict[str, list[float]]


async def measure(stack: Stack, bare: str, options: Options) -> Rates:
    rates: Rates = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="portway-bench-") as folder:
        async with Portway(stack.host, token=stack.token) as host, floor.dial(bare) as echo:
            await runs.create_agent(host)
            async with runs.held(host, Path(folder), "bench-pull") as token:
                async with open_channel(stack.host, token=token) as channel:
                    for _ in range(ROUNDS):
                        await one_round(host, channel, echo, rates, options)
    return rates


async def one_round(
    host: Portway, channel: PortwayChannel, echo: grpc.aio.Channel, rates: Rates, options: Options
) -> None:
    seconds, count = options.pick(1, 3), options.pick(5_000, 20_000)
    request = floor.request_of(REQUEST_BYTES, ANSWER_BYTES)
    rates["bidi"].append(await floor.echo_rate(echo, request, IN_FLIGHT, seconds))
    rates["stream"].append(float(await runs.answer(host, f"calls state {count} {IN_FLIGHT}")))
    rates["history"].append(float(await runs.answer(host, f"calls history {count // 2} {IN_FLIGHT}")))
    rates["session"].append(await session_rate(channel, seconds))
    floor_call = floor.unary_of(echo)
    rates["unary floor"].append(await unary_rate(lambda: floor_call(request), seconds))
    stub = runner_service_pb2_grpc.RunnerServiceStub(channel)
    rates["unary"].append(await unary_rate(lambda: stub.GetState(STATE), seconds))


async def session_rate(channel: PortwayChannel, seconds: float) -> float:
    """Calls a second on one session; as many go into one message as have been answered meanwhile."""
    call: Any = runner_service_pb2_grpc.RunnerServiceStub(channel).OpenSession()
    free, call_id, done = asyncio.Semaphore(IN_FLIGHT), 0, 0

    async def write() -> None:
        nonlocal call_id
        while True:
            request = run_call_pb2.OpenSessionRequest()
            await free.acquire()
            while True:
                call_id += 1
                request.calls.add(call_id=call_id, get_state=STATE)
                if free.locked() or len(request.calls) == PACKED:
                    break
                await free.acquire()
            await call.write(request)

    writing = asyncio.ensure_future(write())
    begun = time.perf_counter()
    try:
        while time.perf_counter() - begun < seconds:
            for answer in (await call.read()).answers:
                if answer.HasField("error"):
                    raise AssertionError(f"a call was refused: {answer.error.message}")
                done += 1
                free.release()
        return done / (time.perf_counter() - begun)
    finally:
        writing.cancel()
        call.cancel()


async def unary_rate(make: Any, seconds: float) -> float:
    """Calls a second, 16 callers."""
    done, begun = 0, time.perf_counter()

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() - begun < seconds:
            await make()
            done += 1

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return done / (time.perf_counter() - begun)


def rows(rates: Rates) -> list[Row]:
    rate = {name: statistics.median(values) for name, values in rates.items()}
    stream, session, unary = rate["stream"], rate["session"], rate["unary"]
    return [
        Row("calls of a run, its stream, 64 in flight", stream, "/s", rate["bidi"], at_least(stream, 24_000, "/s")),
        Row("the same, a page of history each", rate["history"], "/s", rate["bidi"]),
        Row("calls of a run, a session, 64 in flight", session, "/s", rate["bidi"], at_least(session, 24_000, "/s")),
        Row(
            "calls of a run, unary, 16 callers",
            unary,
            "/s",
            rate["unary floor"],
            of_floor(unary, rate["unary floor"], 0.6),
        ),
    ]


def main() -> int:
    options = read_options(__doc__)
    cores = machine.all_but_one()
    print(f"{cores}; {ROUNDS} rounds, medians", flush=True)
    with floor.bare_server(cores.server) as bare, installation(runs.CONFIG) as stack:
        stack.pin(cores.server)
        machine.pin_self(cores.client)
        rates = uvloop.run(measure(stack, bare, options))
    tell(rows(rates), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
