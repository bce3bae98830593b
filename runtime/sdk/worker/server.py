"""Serves the worker contract on the private socket. Smaller than the servers of `portway.rpc`: one client, one cookie,
and every plugin pays for what is imported here."""

import asyncio
import hmac
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from portway.rpc.errors import Cancelled, InternalError, InvalidInput, NotAuthenticated, PortwayError, Reason
from portway.rpc.status import to_wire
from portway.runtime.sdk.worker.service import WorkerServicer
from portway.runtime.sdk.worker.settings import WorkerSettings, load
from portway.v1 import worker_pb2 as pb

SERVICE = "portway.v1.WorkerService"
MESSAGE_BYTES = 4 * 1024 * 1024

_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
]
_Context = grpc.aio.ServicerContext[Any, Any]
_Handler = Callable[["_Stream", bytes], Awaitable[None]]


class _Stream:
    """A call's stream in bytes."""

    def __init__(self, context: _Context) -> None:
        self._context = context

    async def read(self) -> bytes | None:
        raw = await self._context.read()
        return None if raw is grpc.aio.EOF else raw

    async def write(self, message: bytes) -> None:
        try:
            await self._context.write(message)
        except grpc.aio.InternalError:
            # What the library calls an internal error is a runtime that stopped reading.
            raise Cancelled("the runtime went away") from None


def serve(settings: WorkerSettings) -> None:
    """Runs until the drain or the signal to stop is done. Loads the components first, so that errors come at once."""
    classes = {(one.kind, one.name): load(one) for one in settings.components}
    asyncio.run(_serve(settings, classes))


async def _serve(settings: WorkerSettings, classes: dict[tuple[str, str], type]) -> None:
    servicer = WorkerServicer(settings.plugin_id, classes)
    server = grpc.aio.server(options=_OPTIONS)
    handlers = _handlers(servicer, f"Bearer {settings.cookie}")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"unix:{settings.socket}")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, servicer.drain)
    await server.start()
    await servicer.idle.wait()
    # What was answered last still has to go out.
    await server.stop(1.0)


def _handlers(servicer: WorkerServicer, bearer: str) -> dict[str, "grpc.RpcMethodHandler[Any, Any]"]:
    async def handshake(stream: _Stream, raw: bytes) -> None:
        await _send(stream, servicer.handshake(_parse(pb.HandshakeRequest(), raw)))

    async def ping(stream: _Stream, _raw: bytes) -> None:
        await _send(stream, servicer.ping())

    async def drain(stream: _Stream, _raw: bytes) -> None:
        await _send(stream, servicer.drain())

    async def call_tool(stream: _Stream, raw: bytes) -> None:
        await servicer.call_tool(_parse(pb.WorkerServiceCallToolRequest(), raw), stream)

    async def run_agent(_requests: object, context: _Context) -> None:
        stream = _Stream(context)
        await _answer(context, bearer, servicer.run_agent(stream))

    async def run_component(_requests: object, context: _Context) -> None:
        stream = _Stream(context)
        await _answer(context, bearer, servicer.run_component(stream))

    def once(handler: _Handler) -> "grpc.RpcMethodHandler[Any, Any]":
        async def answer(raw: bytes, context: _Context) -> None:
            await _answer(context, bearer, handler(_Stream(context), raw))

        return grpc.unary_stream_rpc_method_handler(answer)

    return {
        "Handshake": once(handshake),
        "Ping": once(ping),
        "DrainWorker": once(drain),
        "CallTool": once(call_tool),
        "RunComponent": grpc.stream_stream_rpc_method_handler(run_component),
        "RunAgent": grpc.stream_stream_rpc_method_handler(run_agent),
    }


async def _answer(context: _Context, bearer: str, work: Any) -> None:
    """Runs `work` for a caller that knows the cookie, and maps what it raises."""
    try:
        if not hmac.compare_digest(_authorization(context), bearer):
            work.close()
            raise NotAuthenticated("only the runtime that started this worker may call it")
        await work
    except BaseExceptionGroup as group:
        await _abort(context, _first(group))
    except Exception as error:  # noqa: BLE001 - the outermost place: nothing of the inside leaves the process
        await _abort(context, error)


async def _abort(context: _Context, error: BaseException) -> None:
    if not isinstance(error, Exception):
        raise error
    if not isinstance(error, PortwayError):
        traceback.print_exception(error, file=sys.stderr)
        error = InternalError("the worker failed; its log has the traceback")
    wire = to_wire(error)
    await context.abort(wire.code, wire.message, wire.trailers)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong first; the rest was cancelled by it."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _authorization(context: _Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str):
            return value
    return ""


async def _send(stream: _Stream, message: Message) -> None:
    await stream.write(message.SerializeToString())


def _parse(message: Any, raw: bytes) -> Any:
    try:
        message.ParseFromString(raw)
    except DecodeError:
        raise InvalidInput("the message cannot be read", reason=Reason.UNPARSABLE_MESSAGE) from None
    return message
