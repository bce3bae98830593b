"""The worker contract for plugins in Python: runs, calls of components, signs of life, and a drain before the end."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from portway.rpc.errors import InvalidInput, NotFound, Reason, Unavailable, WrongState
from portway.runtime.sdk.components.knowledge import KnowledgeEngine
from portway.runtime.sdk.session.component_session import ComponentSession, parse_component_frames
from portway.runtime.sdk.session.run_session import RunSession, RunStream, parse_frames
from portway.runtime.sdk.worker.operations import perform
from portway.runtime.sdk.worker.output import current_run
from portway.runtime.sdk.worker.settings import RUNNER, TOOL
from portway.runtime.sdk.worker.tool_calls import call_tool, call_tool_on
from portway.v1 import worker_pb2 as pb

PROTOCOL_VERSION = 1
SDK = "python 1"


class WorkerServicer:
    """Keeps count of what is under way; `idle` is set when a drain has nothing left to wait for."""

    def __init__(self, plugin_id: str, classes: Mapping[tuple[str, str], type[Any]]) -> None:
        """`classes` are those of the components, by kind and name."""
        self._plugin_id = plugin_id
        self._classes = classes
        self._engines: dict[type, KnowledgeEngine] = {}
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
        components = [pb.WorkerComponent(kind=kind, name=name) for kind, name in self._classes]
        return pb.HandshakeResponse(protocol_version=PROTOCOL_VERSION, components=components, sdk=SDK)

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
        runner = self._classes.get((RUNNER, start.runner_id.removeprefix(f"plugin:{self._plugin_id}/")))
        if runner is None:
            raise NotFound.of("runner", start.runner_id)
        with self._counted(start.context.run_id):
            await RunSession(stream, start, runner).execute(frames[1:])

    async def call_tool(self, request: pb.WorkerServiceCallToolRequest, stream: RunStream) -> None:
        tool = self._component(TOOL, request.name)

        async def send(response: pb.WorkerServiceCallToolResponse) -> None:
            await stream.write(response.SerializeToString())

        with self._counted(request.run_id):
            await call_tool(tool, request, send)

    async def run_component(self, stream: RunStream) -> None:
        raw = await stream.read()
        frames = parse_component_frames(raw) if raw is not None else []
        if not frames or not frames[0].HasField("start"):
            raise InvalidInput("the first frame of a call is `start`", reason=Reason.UNEXPECTED_FRAME)
        start = frames[0].start
        component = self._component(start.kind, start.component_id.removeprefix(f"{self._plugin_id}/"))
        with self._counted(start.caller.run_id):
            session = ComponentSession(stream, start)
            if start.kind == TOOL and start.HasField("call_tool"):
                await session.execute(frames[1:], lambda session: call_tool_on(component, session))
            else:
                instance = self._instance(component)
                await session.execute(frames[1:], lambda session: perform(instance, session))

    def _component(self, kind: str, name: str) -> type[Any]:
        found = self._classes.get((kind, name)) if kind != RUNNER else None
        if found is None:
            raise NotFound.of(kind or "component", name)
        return found

    def _instance(self, component: type[Any]) -> Any:
        """An engine lives as long as the process; every other component is made for its call."""
        if not issubclass(component, KnowledgeEngine):
            return component()
        if component not in self._engines:
            self._engines[component] = component()
        return self._engines[component]

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
