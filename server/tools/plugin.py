"""Tools that plugins bring: called through the plugin runtime, in the plugin's own process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import grpc

from portway.rpc.errors import (
    Cancelled,
    InvalidInput,
    LimitExceeded,
    NotFound,
    PayloadTooLarge,
    PortwayError,
    Reason,
    Unavailable,
    WrongState,
)
from portway.rpc.status import errors_by_meaning
from portway.server.components.desk import ComponentDesk
from portway.server.effects.types import Idempotency
from portway.server.runtimes.link import RuntimeLink
from portway.server.tools.plugin_answer import ToolAnswer
from portway.server.tools.plugin_talk import caller_of, seconds_of, talked
from portway.server.tools.schema import Schema, SchemaProblem
from portway.server.tools.types import (
    Availability,
    JsonObject,
    ToolCall,
    ToolEvent,
    ToolResult,
    ToolScope,
    ToolSpec,
    ToolType,
)
from portway.server.tools.wire import dict_of, struct_of
from portway.v1 import runtime_pb2, runtime_pb2_grpc

PREFIX = "plugin:"
# With these the runtime says that the plugin's process never saw the call.
_NOT_BEGUN = (Reason.RUNNER_UNAVAILABLE, Reason.STALE_HOST, Reason.SHUTTING_DOWN)


class PluginTools:
    """The source of one plugin's tools. `state` tells how the runtime is now."""

    def __init__(
        self,
        plugin_id: str,
        specs: Sequence[ToolSpec],
        link: RuntimeLink,
        state: Callable[[], Availability],
        desk: ComponentDesk | None = None,
    ) -> None:
        self.source_id = f"{PREFIX}{plugin_id}"
        self._specs = tuple(specs)
        self._permissions = {spec.name: spec.permissions for spec in specs}
        self._link = link
        self._state = state
        self._desk = desk

    def specs(self) -> tuple[ToolSpec, ...]:
        return self._specs

    def availability(self) -> Availability:
        return self._state()

    async def call(self, scope: ToolScope, call: ToolCall) -> AsyncGenerator[ToolEvent, None]:
        try:
            with errors_by_meaning():
                async with aclosing(self._events(scope, call, reconcile=False)) as events:
                    async for event in events:
                        yield event
        except PayloadTooLarge as error:
            # It has acted, and only its answer is lost.
            yield ToolResult(f"the tool's answer is too large: {error.message}", is_error=True)
        except (NotFound, LimitExceeded) as error:
            raise WrongState(error.message, reason=Reason.TOOL_UNAVAILABLE) from error
        except Cancelled as error:
            raise Unavailable("the plugin's process broke the call off; it may have acted") from error
        except Unavailable as error:
            if error.reason in _NOT_BEGUN:
                raise WrongState(error.message, reason=Reason.TOOL_UNAVAILABLE) from error
            raise

    async def reconcile(self, scope: ToolScope, call: ToolCall) -> ToolResult:
        try:
            with errors_by_meaning():
                async with aclosing(self._events(scope, call, reconcile=True)) as events:
                    async for event in events:
                        if isinstance(event, ToolResult):
                            return event
        except PortwayError as error:
            raise WrongState(
                f"what became of the call of {call.name!r} cannot be found out: {error.message}",
                reason=Reason.EFFECT_UNKNOWN,
            ) from error
        raise WrongState(f"the tool {call.name!r} did not say what became of its call", reason=Reason.EFFECT_UNKNOWN)

    async def _events(self, scope: ToolScope, call: ToolCall, *, reconcile: bool) -> AsyncGenerator[ToolEvent, None]:
        """What the tool says, its result last. Leaving it cancels the call in the plugin."""
        answer = ToolAnswer()
        asking = self._permissions.get(call.name)
        if asking and self._desk is not None:
            raws = talked(self._desk, scope, call, asking, reconcile=reconcile)
        else:
            raws = self._called(scope, call, reconcile=reconcile)
        async with aclosing(raws) as responses:
            async for response in responses:
                event = answer.take(response)
                if event is not None:
                    yield event

    async def _called(
        self, scope: ToolScope, call: ToolCall, *, reconcile: bool
    ) -> AsyncGenerator[runtime_pb2.RuntimeServiceCallToolResponse, None]:
        try:
            stub = runtime_pb2_grpc.RuntimeServiceStub(self._link.channel)
        except Unavailable as error:
            raise WrongState(error.message, reason=Reason.TOOL_UNAVAILABLE) from error
        request = runtime_pb2.RuntimeServiceCallToolRequest(
            name=call.name.removeprefix(PREFIX),
            arguments=struct_of(call.arguments),
            effect_id=call.effect_id,
            run_id=scope.run_id,
            reconcile=reconcile,
            caller=caller_of(scope),
        )
        stream = stub.CallTool(request, timeout=seconds_of(call), metadata=self._link.metadata)
        try:
            async for response in stream:
                yield response
        finally:
            # The plugin sees the end of the call as its cancellation.
            stream.cancel()


def specs_of(tools: Sequence[runtime_pb2.PluginTool]) -> dict[str, list[ToolSpec]]:
    """Tools by plugin. Raises InvalidInput for a class of idempotency that nobody knows."""
    found: dict[str, list[ToolSpec]] = {}
    for tool in tools:
        try:
            idempotency = Idempotency(tool.idempotency or Idempotency.NOT_IDEMPOTENT)
        except ValueError:
            raise InvalidInput(f"the tool {tool.name!r} has the unknown class {tool.idempotency!r}") from None
        parameters = dict_of(tool.parameters)
        spec = ToolSpec(
            name=f"{PREFIX}{tool.name}",
            type=ToolType.PLUGIN,
            description=tool.description,
            input_schema=parameters,
            idempotency=idempotency,
            unusable=_fault(parameters),
            permissions=frozenset(tool.permissions),
        )
        found.setdefault(tool.name.rpartition("/")[0], []).append(spec)
    return found


def _fault(parameters: JsonObject) -> str:
    try:
        Schema(parameters)
    except SchemaProblem as error:
        return f"its parameters cannot be used: {error.message}; mend the tool's manifest"
    return ""


async def list_tools(link: RuntimeLink, seconds: float, most: int) -> list[runtime_pb2.PluginTool]:
    """Every tool that the runtime has, at most so many. Raises Unavailable and its like."""
    stub = runtime_pb2_grpc.RuntimeServiceStub(link.channel)
    found: list[runtime_pb2.PluginTool] = []
    token = ""
    with errors_by_meaning():
        while len(found) < most:
            request = runtime_pb2.RuntimeServiceListToolsRequest(page_size=200, page_token=token)
            try:
                page = await stub.ListTools(request, timeout=seconds, metadata=link.metadata)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    return []
                raise
            found += page.tools
            token = page.next_page_token
            if not token:
                break
    return found[:most]
