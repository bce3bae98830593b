"""The floor: bare gRPC handlers of the library in a process of their own, with messages of the same sizes.

They have neither token, role, rules, parsing, log nor disk. What is measured on Portway is compared with them, in the
same run, on the same cores.
"""

import asyncio
import multiprocessing
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import grpc
import uvloop

_SERVICE = "bench.Floor"
_UNARY, _BIDI, _FLOOD = (f"/{_SERVICE}/{name}" for name in ("Unary", "Bidi", "Flood"))
_WANTED = struct.Struct("<IQ")
_OPTIONS = [("grpc.use_local_subchannel_pool", 1)]


def request_of(size: int, answer_size: int, count: int = 1) -> bytes:
    """A request of this size that asks for answers of that size."""
    return _WANTED.pack(answer_size, count).ljust(size, b"\0")


async def _unary(request: bytes, context: Any) -> bytes:
    return bytes(_WANTED.unpack_from(request)[0])


async def _bidi(requests: Any, context: Any) -> None:
    while (request := await context.read()) is not grpc.aio.EOF:
        await context.write(bytes(_WANTED.unpack_from(request)[0]))


async def _flood(request: bytes, context: Any) -> None:
    size, count = _WANTED.unpack_from(request)
    message = bytes(size)
    for _ in range(count):
        await context.write(message)


async def _serve(listening: Connection) -> None:
    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Unary": grpc.unary_unary_rpc_method_handler(_unary),
        "Bidi": grpc.stream_stream_rpc_method_handler(_bidi),
        "Flood": grpc.unary_stream_rpc_method_handler(_flood),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    listening.send(port)
    await server.wait_for_termination()


def _process(cores: frozenset[int], listening: Connection) -> None:
    os.sched_setaffinity(0, cores)
    uvloop.run(_serve(listening))


@contextmanager
def bare_server(cores: frozenset[int]) -> Iterator[str]:
    """Its address."""
    context = multiprocessing.get_context("spawn")
    listened, listening = context.Pipe(duplex=False)
    process = context.Process(target=_process, args=(cores, listening))
    process.start()
    try:
        yield f"127.0.0.1:{listened.recv()}"
    finally:
        process.kill()
        process.join()


def dial(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, options=_OPTIONS)


def unary_of(channel: grpc.aio.Channel) -> Any:
    """Called with `request_of(…)`."""
    return channel.unary_unary(_UNARY)


async def round_trips(channel: grpc.aio.Channel, request: bytes, count: int) -> list[float]:
    """Seconds of each of `count` round trips on one stream, one after the other."""
    call: Any = channel.stream_stream(_BIDI)()
    taken = []
    for _ in range(count):
        begun = time.perf_counter()
        await call.write(request)
        await call.read()
        taken.append(time.perf_counter() - begun)
    call.cancel()
    return taken


async def echo_rate(channel: grpc.aio.Channel, request: bytes, in_flight: int, seconds: float) -> float:
    """Messages a second that came back on one stream with so many under way."""
    call: Any = channel.stream_stream(_BIDI)()
    places = asyncio.Semaphore(in_flight)

    async def write() -> None:
        while True:
            await places.acquire()
            await call.write(request)

    writing = asyncio.ensure_future(write())
    begun, done = time.perf_counter(), 0
    try:
        while time.perf_counter() - begun < seconds:
            await call.read()
            done += 1
            places.release()
        return done / (time.perf_counter() - begun)
    finally:
        writing.cancel()
        call.cancel()


async def flood_rate(channel: grpc.aio.Channel, size: int, count: int) -> float:
    """Messages a second that a server streams, one after the other."""
    flood: Any = channel.unary_stream(_FLOOD)
    call = flood(request_of(_WANTED.size, size, count))
    begun, done = time.perf_counter(), 0
    while await call.read() is not grpc.aio.EOF:
        done += 1
    if done != count:
        raise AssertionError(f"{done} of {count} messages came")
    return count / (time.perf_counter() - begun)
