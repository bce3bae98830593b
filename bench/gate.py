"""What the gate costs that every call goes through, beside bare gRPC handlers with the same messages.

    .venv/bin/python -m bench.gate [--quick | --full]

The server has one core, three clients have the others. The floor is a handler of the library with its own parsing and
neither token, role, rules, nor log. `quiet` calls are not logged, `logged` ones have a line each.
"""

import asyncio
import multiprocessing
import os
import sys
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from typing import Any

import grpc
import uvloop

from bench.kit.rows import Row, read_options, tell
from portway.rpc.binding import Service
from portway.rpc.call import Call
from portway.rpc.channel import open_channel
from portway.rpc.identity import Caller, Role
from portway.rpc.serving import serve
from portway.rpc.telemetry import configure_logging
from portway.rpc.tokens import FixedTokens, mint_token
from portway.v1 import run_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["RunService"]
GET, WATCH = f"/{SERVICE.full_name}/GetRun", f"/{SERVICE.full_name}/WatchRun"
CLIENTS, CALLERS_EACH, BEFORE = 3, 6, 300
ENDLESS = 1 << 40


class Servicer:
    async def GetRun(self, request: pb.GetRunRequest, call: Any) -> pb.GetRunResponse:
        return pb.GetRunResponse()

    async def WatchRun(self, request: pb.WatchRunRequest, call: Call[None, pb.WatchRunResponse]) -> None:
        for _ in range(ENDLESS):
            await call.write(pb.WatchRunResponse())


async def serve_bare(listening: Connection) -> None:
    servicer, server = Servicer(), grpc.aio.server()
    answer: dict[str, Any] = {"response_serializer": pb.GetRunResponse.SerializeToString}
    watch: dict[str, Any] = {"response_serializer": pb.WatchRunResponse.SerializeToString}
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "GetRun": grpc.unary_unary_rpc_method_handler(
            servicer.GetRun, request_deserializer=pb.GetRunRequest.FromString, **answer
        ),
        "WatchRun": grpc.unary_stream_rpc_method_handler(
            servicer.WatchRun, request_deserializer=pb.WatchRunRequest.FromString, **watch
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    listening.send(port)
    await server.wait_for_termination()


async def serve_gated(listening: Connection, token: str, quiet: bool) -> None:
    configure_logging("bench", stream=open(os.devnull, "w"))  # noqa: ASYNC230 - before anything is served
    tokens = FixedTokens([(token, Caller(Role.ADMIN, "default", "tok_bench"))])
    methods = frozenset({"GetRun"}) if quiet else frozenset[str]()
    service = Service(SERVICE, Servicer(), quiet_methods=methods)
    async with serve([service], address="127.0.0.1:0", authenticator=tokens) as server:
        listening.send(server.port)
        await asyncio.Event().wait()


def server_process(kind: str, listening: Connection, token: str) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    uvloop.run(serve_bare(listening) if kind == "bare" else serve_gated(listening, token, kind == "quiet"))


async def measure(port: int, token: str, seconds: float) -> tuple[int, int]:
    """Unary calls and streamed messages that one client got answered."""
    async with open_channel(f"127.0.0.1:{port}", token=token) as channel:
        get: Callable[..., Awaitable[Any]] = channel.unary_unary(
            GET,
            request_serializer=pb.GetRunRequest.SerializeToString,
            response_deserializer=pb.GetRunResponse.FromString,
        )
        request = pb.GetRunRequest(run_id="run_0193a0c0a0c07000800000000000000a")
        for _ in range(BEFORE):
            await get(request)
        calls, end = 0, time.perf_counter() + seconds

        async def caller() -> None:
            nonlocal calls
            while time.perf_counter() < end:
                await get(request)
                calls += 1

        await asyncio.gather(*(caller() for _ in range(CALLERS_EACH)))
        stream = channel.unary_stream(WATCH)(pb.WatchRunRequest(run_id=request.run_id).SerializeToString())
        messages, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            for _ in range(100):
                await stream.read()
            messages += 100
        stream.cancel()
        return calls, messages


def client_process(port: int, token: str, seconds: float, answer: Connection) -> None:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores - {min(cores)} or cores)
    answer.send(uvloop.run(measure(port, token, seconds)))


def rates(kind: str, seconds: float) -> tuple[float, float]:
    context, token = multiprocessing.get_context("spawn"), mint_token("bench").text
    listened, listening = context.Pipe(duplex=False)
    server = context.Process(target=server_process, args=(kind, listening, token))
    server.start()
    port = listened.recv()
    answers = []
    for _ in range(CLIENTS):
        received, answer = context.Pipe(duplex=False)
        context.Process(target=client_process, args=(port, token, seconds, answer)).start()
        answers.append(received)
    results = [received.recv() for received in answers]
    server.kill()
    server.join()
    return sum(calls for calls, _ in results) / seconds, sum(messages for _, messages in results) / seconds


def main() -> int:
    options = read_options(__doc__)
    seconds = float(options.pick(1, 2, 5))
    floor_calls, floor_messages = rates("bare", seconds)
    print(f"{CLIENTS * CALLERS_EACH} callers, server on one core", flush=True)
    rows = []
    for kind in ("quiet", "logged"):
        calls, messages = rates(kind, seconds)
        rows.append(Row(f"the gate alone, unary, {kind}", calls, "/s", floor_calls))
        if kind == "quiet":
            rows.append(Row("the gate alone, streamed messages", messages, "/s", floor_messages))
    tell(rows, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
