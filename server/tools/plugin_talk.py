"""Tools of plugins that may ask the host for something: called on a stream of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from collections.abc import Set as AbstractSet
from typing import Any

from portway.rpc.errors import PortwayError, Reason, Unavailable, WrongState
from portway.server.components.desk import ComponentDesk
from portway.server.tools.types import ToolCall, ToolScope
from portway.server.tools.wire import struct_of
from portway.v1 import component_pb2, runtime_pb2

KIND = "Tool"
# A call outside of a run's deadline ends all the same.
LONGEST_SECONDS = 3600.0
_WAITING = 64

_Response = runtime_pb2.RuntimeServiceCallToolResponse


def caller_of(scope: ToolScope) -> component_pb2.ComponentCaller:
    """Who calls, as the host knows it."""
    return component_pb2.ComponentCaller(
        workspace_id=scope.workspace_id,
        run_id=scope.run_id,
        runner_id=scope.runner_id,
        agent_id=scope.agent_id,
        conversation_id=scope.conversation_id,
    )


def seconds_of(call: ToolCall) -> float:
    return call.timeout_seconds if call.timeout_seconds is not None else LONGEST_SECONDS


async def talked(
    desk: ComponentDesk, scope: ToolScope, call: ToolCall, permissions: AbstractSet[str], *, reconcile: bool
) -> AsyncGenerator[_Response, None]:
    """What the tool says, in the shape that a plain call has."""
    said: asyncio.Queue[_Response | PortwayError] = asyncio.Queue(_WAITING)

    async def take(frame: component_pb2.ComponentOutputFrame) -> None:
        await said.put(_plain(frame))

    async def work() -> None:
        start = _start(scope, call, permissions, reconcile)
        try:
            result = await desk.talk(start, seconds_of(call), take, scope.backing)
        except PortwayError as error:
            await said.put(_not_begun(error))
        else:
            await said.put(_Response(result=result.tool))

    working = asyncio.ensure_future(work())
    try:
        while True:
            one = await _next(said, working)
            if isinstance(one, PortwayError):
                raise one
            yield one
            if one.HasField("result"):
                return
    finally:
        working.cancel()
        await asyncio.wait([working])


async def _next(
    said: asyncio.Queue[_Response | PortwayError], working: asyncio.Future[None]
) -> _Response | PortwayError:
    """What was said next. A bug in the work is raised here."""
    following = asyncio.ensure_future(said.get())
    try:
        either: list[asyncio.Future[Any]] = [following, working]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not following.done() and said.empty():
            working.result()
        return await following
    finally:
        following.cancel()


def _start(
    scope: ToolScope, call: ToolCall, permissions: AbstractSet[str], reconcile: bool
) -> component_pb2.ComponentStart:
    invocation = component_pb2.ToolInvocation(
        arguments=struct_of(call.arguments), effect_id=call.effect_id, reconcile=reconcile
    )
    return component_pb2.ComponentStart(
        kind=KIND,
        component_id=call.name.removeprefix("plugin:"),
        caller=caller_of(scope),
        permissions=sorted(permissions),
        call_tool=invocation,
    )


def _plain(frame: component_pb2.ComponentOutputFrame) -> _Response:
    match frame.WhichOneof("kind"):
        case "partial_text":
            return _Response(partial_text=frame.partial_text)
        case "progress":
            return _Response(progress=frame.progress)
        case "file":
            return _Response(file=frame.file)
        case _:
            return _Response()


def _not_begun(error: PortwayError) -> PortwayError:
    """Without a runtime the call never left."""
    if isinstance(error, Unavailable) and error.reason == Reason.RUNNER_UNAVAILABLE:
        return WrongState(error.message, reason=Reason.TOOL_UNAVAILABLE)
    return error
