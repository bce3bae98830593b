"""The worker contract for plugins in Python: runs, tool calls, signs of life, and a drain before the end."""

import asyncio
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from portway.rpc.errors import InvalidInput, NotFound, PortwayError, Reason, Unavailable, WrongState
from portway.runtime.sdk.runner import AgentRunner, Tool, ToolCall
from portway.runtime.sdk.session.run_session import RunSession, RunStream, parse_frames
from portway.runtime.sdk.types.convert import read_json, write
from portway.runtime.sdk.types.pulled import ToolResult
from portway.runtime.sdk.worker.output import current_run
from portway.runtime.sdk.worker.settings import RUNNER, TOOL
from portway.v1 import run_result_pb2
from portway.v1 import worker_pb2 as pb

PROTOCOL_VERSION = 1
SDK = "python 1"


class WorkerServicer:
    """Keeps count of what is under way; `idle` is set when a drain has nothing left to wait for."""

    def __init__(
        self, plugin_id: str, runners: Mapping[str, type[AgentRunner]], tools: Mapping[str, type[Tool]]
    ) -> None:
        self._plugin_id = plugin_id
        self._runners = runners
        self._tools = tools
        self._under_way = 0
        self._draining = False
        self.idle = asyncio.Event()

    def handshake(self, request: pb.HandshakeRequest) -> pb.HandshakeResponse:
        if PROTOCOL_VERSION not in request.protocol_versions:
            spoken = ", ".join(str(version) for version in request.protocol_versions)
            raise WrongState(
                f"this worker speaks version {PROTOCOL_VERSION} of the contract, the runtime {spoken or 'none'}; "
                "use a plugin SDK and a runtime of the same major version"
            )
        runners = [pb.WorkerComponent(kind=RUNNER, name=name) for name in self._runners]
        tools = [pb.WorkerComponent(kind=TOOL, name=name) for name in self._tools]
        return pb.HandshakeResponse(protocol_version=PROTOCOL_VERSION, components=runners + tools, sdk=SDK)

    def ping(self) -> pb.PingResponse:
        return pb.PingResponse(run_count=self._under_way)

    def drain(self) -> pb.DrainWorkerResponse:
        self._draining = True
        if self._under_way == 0:
            self.idle.set()
        return pb.DrainWorkerResponse(run_count=self._under_way)

    async def run_agent(self, stream: RunStream) -> None:
        raw = await stream.read()
        frames = parse_frames(raw) if raw is not None else []
        if not frames or not frames[0].HasField("start"):
            raise InvalidInput("the first frame of a run is `start`", reason=Reason.UNEXPECTED_FRAME)
        start = frames[0].start
        runner = self._runners.get(start.runner_id.removeprefix(f"plugin:{self._plugin_id}/"))
        if runner is None:
            raise NotFound.of("runner", start.runner_id)
        with self._counted(start.context.run_id):
            await RunSession(stream, start, runner).execute(frames[1:])

    async def call_tool(self, request: pb.WorkerServiceCallToolRequest, stream: RunStream) -> None:
        tool = self._tools.get(request.name)
        if tool is None:
            raise NotFound.of("tool", request.name)

        async def output(text: str) -> None:
            await stream.write(pb.WorkerServiceCallToolResponse(partial_text=text).SerializeToString())

        async def progress(text: str, fraction: float | None) -> None:
            message = run_result_pb2.Progress(text=text, fraction=fraction)
            await stream.write(pb.WorkerServiceCallToolResponse(progress=message).SerializeToString())

        with self._counted(request.run_id):
            result = await _call(tool, request, ToolCall(request.effect_id, request.run_id, output, progress))
            response = pb.WorkerServiceCallToolResponse()
            write(result, response.result)
            await stream.write(response.SerializeToString())

    @contextmanager
    def _counted(self, run_id: str) -> Iterator[None]:
        if self._draining:
            raise Unavailable("the plugin's process is being replaced; try again", reason=Reason.SHUTTING_DOWN)
        self._under_way += 1
        reset = current_run.set(run_id)
        try:
            yield
        finally:
            current_run.reset(reset)
            self._leave()

    def _leave(self) -> None:
        self._under_way -= 1
        if self._draining and self._under_way == 0:
            self.idle.set()


async def _call(tool: type[Tool], request: pb.WorkerServiceCallToolRequest, call: ToolCall) -> ToolResult:
    arguments = read_json(request.arguments)
    try:
        result = await (tool().reconcile(arguments, call) if request.reconcile else tool().call(arguments, call))
    except PortwayError as error:
        if request.reconcile:
            # That it cannot be told is no result of the tool.
            raise
        return ToolResult(text=error.message, is_error=True)
    except Exception as error:
        traceback.print_exception(error, file=sys.stderr)
        if request.reconcile:
            raise WrongState(f"{type(error).__name__}: {error}", reason=Reason.EFFECT_UNKNOWN) from error
        return ToolResult(text=f"{type(error).__name__}: {error}", is_error=True)
    return ToolResult(text=result) if isinstance(result, str) else result
