"""Calls of tools: on a short stream of their own, or on a component's, where they may ask the host for storage."""

import sys
import traceback
from collections.abc import Awaitable, Callable
from datetime import UTC

from portway.rpc.errors import PortwayError, Reason, WrongState
from portway.runtime.sdk.components.call import PluginStorage
from portway.runtime.sdk.components.tool import MAX_RESULT_BYTES, Tool, ToolCall
from portway.runtime.sdk.session.component_session import ComponentSession
from portway.runtime.sdk.types.convert import Json, read_json, write
from portway.runtime.sdk.types.pulled import ToolResult
from portway.runtime.sdk.worker.operations import caller_of
from portway.v1 import component_pb2, run_pull_pb2, run_result_pb2
from portway.v1 import worker_pb2 as pb

Send = Callable[[pb.WorkerServiceCallToolResponse], Awaitable[None]]


async def call_tool(tool: type[Tool], request: pb.WorkerServiceCallToolRequest, send: Send) -> None:
    """Sends what the tool says, and its result last."""
    result = await _result(tool, request, send, None)
    await send(pb.WorkerServiceCallToolResponse(result=result))


async def call_tool_on(tool: type[Tool], session: ComponentSession) -> component_pb2.ComponentResult:
    """The same on a component's stream."""
    start = session.start
    request = pb.WorkerServiceCallToolRequest(
        arguments=start.call_tool.arguments,
        effect_id=start.call_tool.effect_id,
        run_id=start.caller.run_id,
        reconcile=start.call_tool.reconcile,
        caller=start.caller,
    )
    if start.HasField("deadline"):
        request.deadline.CopyFrom(start.deadline)

    async def send(response: pb.WorkerServiceCallToolResponse) -> None:
        frame = component_pb2.ComponentOutputFrame()
        kind = response.WhichOneof("kind") or ""
        if kind == "partial_text":
            frame.partial_text = response.partial_text
        else:
            getattr(frame, kind).CopyFrom(getattr(response, kind))
        await session.send(frame)

    return component_pb2.ComponentResult(tool=await _result(tool, request, send, session.storage))


async def _result(
    tool: type[Tool], request: pb.WorkerServiceCallToolRequest, send: Send, storage: PluginStorage | None
) -> run_pull_pb2.ToolResult:
    result = await _call(tool(), read_json(request.arguments), request.reconcile, _call_of(request, send, storage))
    message = write(result, run_pull_pb2.ToolResult())
    size = message.ByteSize()
    if size > MAX_RESULT_BYTES:
        text = f"the tool's result has {size} bytes, and at most 1 MiB is allowed; larger content is given as a file"
        return run_pull_pb2.ToolResult(text=text, is_error=True)
    return message


def _call_of(request: pb.WorkerServiceCallToolRequest, send: Send, storage: PluginStorage | None) -> ToolCall:
    async def output(text: str) -> None:
        await send(pb.WorkerServiceCallToolResponse(partial_text=text))

    async def progress(text: str, fraction: float | None) -> None:
        message = run_result_pb2.Progress(text=text, fraction=fraction)
        await send(pb.WorkerServiceCallToolResponse(progress=message))

    async def file(name: str, mime_type: str, data: bytes, last: bool) -> None:
        piece = component_pb2.ToolFilePiece(name=name, mime_type=mime_type, data=data, last=last)
        await send(pb.WorkerServiceCallToolResponse(file=piece))

    return ToolCall(
        request.effect_id,
        request.run_id,
        output,
        progress,
        write_file=file,
        caller=caller_of(request.caller),
        deadline=request.deadline.ToDatetime(UTC) if request.HasField("deadline") else None,
        storage=storage,
    )


async def _call(tool: Tool, arguments: Json, reconcile: bool, call: ToolCall) -> ToolResult:
    try:
        result = await (tool.reconcile(arguments, call) if reconcile else tool.call(arguments, call))
    except PortwayError as error:
        if reconcile:
            # That it cannot be told is no result of the tool.
            raise
        return ToolResult(text=error.message, is_error=True)
    except Exception as error:
        traceback.print_exception(error, file=sys.stderr)
        if reconcile:
            raise WrongState(f"{type(error).__name__}: {error}", reason=Reason.EFFECT_UNKNOWN) from error
        return ToolResult(text=f"{type(error).__name__}: {error}", is_error=True)
    return ToolResult(text=result) if isinstance(result, str) else result
