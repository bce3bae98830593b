"""`host.tools`: tools of the run. Needs the permissions `tools.*`."""

from collections.abc import AsyncIterator
from datetime import timedelta

from portway.rpc.errors import Unavailable
from portway.runtime.sdk.session.calls import Calls
from portway.runtime.sdk.types.convert import Json, read, write_json
from portway.runtime.sdk.types.pulled import ToolEvent, ToolOutput, ToolResult
from portway.runtime.sdk.types.resources import ToolResource
from portway.runtime.sdk.types.results import Progress
from portway.v1 import run_pull_pb2 as pb


class Tools:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def get(self, name: str) -> ToolResource:
        """The tool with its JSON Schema. Raises `NotFound` for one outside the run's resources."""
        return read(ToolResource, (await self._calls.ask("get_tool", pb.RunnerServiceGetToolRequest(name=name))).tool)

    async def call(
        self, name: str, arguments: Json, *, call_id: str = "", within: timedelta | None = None
    ) -> ToolResult:
        """The result of a tool.

        `call_id` is unique in the run. The same call again (by a second attempt, for example) is answered with what was
        recorded, and never acts twice; where nothing was recorded, `WrongState` with `EFFECT_UNKNOWN` is raised.
        """
        async for event in self.stream(name, arguments, call_id=call_id, within=within):
            if isinstance(event, ToolResult):
                return event
        raise Unavailable(f"the tool {name} ended without a result")

    async def stream(
        self, name: str, arguments: Json, *, call_id: str = "", within: timedelta | None = None
    ) -> AsyncIterator[ToolEvent]:
        """Progress and output of a tool as they come, then its result, once and last."""
        message = pb.RunnerServiceCallToolRequest(name=name, call_id=call_id)
        message.arguments.SetInParent()
        write_json(arguments, message.arguments)
        if within is not None:
            message.timeout.FromTimedelta(within)
        async for response in self._calls.stream("call_tool", message):
            match response.WhichOneof("kind"):
                case "progress":
                    yield read(Progress, response.progress)
                case "partial_text":
                    yield ToolOutput(response.partial_text)
                case "result":
                    yield read(ToolResult, response.result)
