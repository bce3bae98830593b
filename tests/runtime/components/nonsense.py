"""A worker that serves the contract and gets it wrong: the first word of a text says how."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import grpc

from portway.v1 import component_pb2, run_pull_pb2, run_result_pb2, worker_pb2

COOKIE = "Bearer " + Path(os.environ["PORTWAY_COOKIE_FILE"]).read_text()
PLAIN = worker_pb2.WorkerServiceCallToolResponse
FRAMES = worker_pb2.WorkerServiceRunComponentResponse
MIB = 1024 * 1024


def plain_answers(word: str) -> list[bytes]:
    done = PLAIN(result=run_pull_pb2.ToolResult(text="done")).SerializeToString()
    progress = PLAIN(progress=run_result_pb2.Progress(text="on")).SerializeToString()
    large = PLAIN(result=run_pull_pb2.ToolResult(text="x" * (MIB + 70_000))).SerializeToString()
    return {
        "ok": [progress, done],
        "malformed": [b"\x0a\xff\xff\xff"],
        "no_result": [progress],
        "after_result": [done, progress],
        "oversize": [large],
        "huge": [PLAIN(partial_text="x" * (20 * MIB)).SerializeToString()],
        "flood": [PLAIN(partial_text="x" * 500_000).SerializeToString()] * 20 + [done],
    }[word]


def frames(word: str) -> list[bytes]:
    done = component_pb2.ComponentOutputFrame(result=component_pb2.ComponentResult(done=component_pb2.OperationDone()))
    section = component_pb2.ComponentOutputFrame(section=component_pb2.DocumentSection(text="x" * 900_000))
    end = FRAMES(frames=[done]).SerializeToString()
    return {
        "ok": [end],
        "malformed": [b"\x0a\xff\xff\xff"],
        "no_result": [FRAMES(frames=[section]).SerializeToString()],
        "after_result": [FRAMES(frames=[done, section]).SerializeToString()],
        "bomb": [FRAMES(frames=[section]).SerializeToString()] * 10 + [end],
    }[word]


class Worker:
    async def handshake(self, _request: Any, context: Any) -> Any:
        await check(context)
        offered = [("Tool", "plain"), ("Parser", "parser")]
        components = [worker_pb2.WorkerComponent(kind=kind, name=name) for kind, name in offered]
        return worker_pb2.HandshakeResponse(protocol_version=1, components=components, sdk="none")

    async def ping(self, _request: Any, context: Any) -> Any:
        await check(context)
        return worker_pb2.PingResponse()

    async def call_tool(self, raw: bytes, context: Any) -> None:
        await check(context)
        request = worker_pb2.WorkerServiceCallToolRequest.FromString(raw)
        for answer in plain_answers(str(request.arguments["word"])):
            await context.write(answer)

    async def run_component(self, _requests: Any, context: Any) -> None:
        await check(context)
        request = worker_pb2.WorkerServiceRunComponentRequest.FromString(await context.read())
        for answer in frames(request.frames[0].start.parse_document.name):
            await context.write(answer)


async def check(context: Any) -> None:
    if ("authorization", COOKIE) not in tuple(context.invocation_metadata()):
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no cookie")


async def main() -> None:
    worker, stop = Worker(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
    read, write = worker_pb2.HandshakeRequest.FromString, worker_pb2.HandshakeResponse.SerializeToString
    ponged = worker_pb2.PingResponse.SerializeToString
    handlers: dict[str, Any] = {
        "Handshake": grpc.unary_unary_rpc_method_handler(worker.handshake, read, write),
        "Ping": grpc.unary_unary_rpc_method_handler(worker.ping, None, ponged),
        "CallTool": grpc.unary_stream_rpc_method_handler(worker.call_tool),
        "RunComponent": grpc.stream_stream_rpc_method_handler(worker.run_component),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("portway.v1.WorkerService", handlers),))
    server.add_insecure_port(f"unix:{os.environ['PORTWAY_SOCKET']}")
    await server.start()
    await stop.wait()
    await server.stop(0.5)


if __name__ == "__main__":
    asyncio.run(main())
