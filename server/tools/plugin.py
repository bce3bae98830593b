"""Tools that plugins bring: called through the plugin runtime, in the plugin's own process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence

import grpc

from portway.rpc.errors import (
    Cancelled,
    InvalidInput,
    LimitExceeded,
    NotAvailable,
    NotFound,
    PortwayError,
    Reason,
    Unavailable,
    WrongState,
)
from portway.rpc.status import errors_by_meaning
from portway.server.effects.types import Idempotency
from portway.server.runtimes.link import RuntimeLink
from portway.server.tools.schema import Schema, SchemaProblem
from portway.server.tools.types import (
    Availability,
    JsonObject,
    PartialText,
    ToolCall,
    ToolEvent,
    ToolProgress,
    ToolResult,
    ToolScope,
    ToolSpec,
    ToolType,
)
from portway.server.tools.wire import dict_of, struct_of
from portway.v1 import runtime_pb2, runtime_pb2_grpc

PREFIX = "plugin:"
# A call outside of a run's deadline ends all the same.
LONGEST_SECONDS = 3600.0

# With these the runtime says that the plugin's process never saw the call.
_NOT_BEGUN = (Reason.RUNNER_UNAVAILABLE, Reason.STALE_HOST, Reason.SHUTTING_DOWN)


class PluginTools:
    """The source of one plugin's tools. `state` tells how the runtime is now."""

    def __init__(
        self, plugin_id: str, specs: Sequence[ToolSpec], link: RuntimeLink, state: Callable[[], Availability]
    ) -> None:
        self.source_id = f"{PREFIX}{plugin_id}"
        self._specs = tuple(specs)
        self._link = link
        self._state = state

    def specs(self) -> tuple[ToolSpec, ...]:
        return self._specs

    def availability(self) -> Availability:
        return self._state()

    async def call(self, scope: ToolScope, call: ToolCall) -> AsyncGenerator[ToolEvent, None]:
        stream = self._open(scope, call, reconcile=False)
        try:
            with errors_by_meaning():
                async for response in stream:
                    yield _event(response)
        except (NotFound, LimitExceeded) as error:
            raise WrongState(error.message, reason=Reason.TOOL_UNAVAILABLE) from error
        except Cancelled as error:
            raise Unavailable("the plugin's process broke the call off; it may have acted") from error
        except Unavailable as error:
            if error.reason in _NOT_BEGUN:
                raise WrongState(error.message, reason=Reason.TOOL_UNAVAILABLE) from error
            raise
        finally:
            # The plugin sees the end of the call as its cancellation.
            stream.cancel()

    async def reconcile(self, scope: ToolScope, call: ToolCall) -> ToolResult:
        stream = self._open(scope, call, reconcile=True)
        try:
            with errors_by_meaning():
                async for response in stream:
                    event = _event(response)
                    if isinstance(event, ToolResult):
                        return event
        except PortwayError as error:
            raise WrongState(
                f"what became of the call of {call.name!r} cannot be found out: {error.message}",
                reason=Reason.EFFECT_UNKNOWN,
            ) from error
        finally:
            stream.cancel()
        raise WrongState(f"the tool {call.name!r} did not say what became of its call", reason=Reason.EFFECT_UNKNOWN)

    def _open(
        self, scope: ToolScope, call: ToolCall, *, reconcile: bool
    ) -> grpc.aio.UnaryStreamCall[
        runtime_pb2.RuntimeServiceCallToolRequest, runtime_pb2.RuntimeServiceCallToolResponse
    ]:
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
        )
        seconds = call.timeout_seconds if call.timeout_seconds is not None else LONGEST_SECONDS
        return stub.CallTool(request, timeout=seconds, metadata=self._link.metadata)


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


def _event(response: runtime_pb2.RuntimeServiceCallToolResponse) -> ToolEvent:
    match response.WhichOneof("kind"):
        case "partial_text":
            return PartialText(response.partial_text)
        case "progress":
            fraction = response.progress.fraction if response.progress.HasField("fraction") else None
            return ToolProgress(response.progress.text, fraction)
        case "result":
            return ToolResult(response.result.text, dict_of(response.result.data), response.result.is_error)
        case _:
            raise NotAvailable("the plugin runtime sent what this version does not know; update the host")
