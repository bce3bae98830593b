"""A real host for tests, with what is asked of it in most of them."""

import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from portway.rpc.channel import PortwayChannel, open_channel
from portway.rpc.ids import new_id
from portway.rpc.status import errors_by_meaning
from portway.rpc.traces.config import TelemetryConfig
from portway.server.agents.store import add_agent, change_agent
from portway.server.agents.types import AgentSpec, ManagedBy
from portway.server.app import RunningHost, run_host
from portway.server.bindings.store import add_binding
from portway.server.bindings.types import GLOBAL_WORKSPACE, BindingScope, BindingSpec
from portway.server.config import Config, HostConfig, HostLimits
from portway.server.models.config import DemoConfig, ModelsConfig
from portway.server.outbound.policy import OutboundPolicy
from portway.server.transcript.types import Order, PageQuery
from portway.v1 import content_pb2, event_pb2, event_pb2_grpc, run_pb2, run_pb2_grpc, runner_service_pb2_grpc
from tests.fakes.box_server import FakeBox
from tests.fakes.runtime_server import RUNNER, FakeRuntime

WORKSPACE = "default"
AGENT = "assistant"
LIMITS = HostLimits(runner_patience=5.0, stop_grace=0.3, drain=5.0, first_contact=0.2)


def text_part(text: str) -> content_pb2.ContentPart:
    return content_pb2.ContentPart(text=content_pb2.TextPart(text=text))


def a_message(text: str = "hi", chat: str = "chat-1", **more: Any) -> event_pb2.Event:
    """A message of a person in a chat of the API, or of the surface that a test names."""
    address = event_pb2.EventAddress(
        surface=more.pop("surface", "api"),
        launcher_type="person",
        launcher_id=chat,
        thread_id=more.pop("thread_id", ""),
        conversation_id=more.pop("conversation_id", ""),
    )
    event = event_pb2.Event(type="message.received", parts=[text_part(text)], address=address, **more)
    if not event.HasField("actor"):
        event.actor.type, event.actor.id, event.actor.name = "user", f"person-of-{chat}", "Ada"
    return event


@dataclasses.dataclass
class Hosted:
    """A host that serves, and stubs that speak to it as its administrator."""

    host: RunningHost
    channel: PortwayChannel
    admin_token: str

    @property
    def parts(self) -> Any:
        return self.host.parts

    @property
    def address(self) -> str:
        return self.host.server.address

    @property
    def events(self) -> Any:
        return event_pb2_grpc.EventServiceStub(self.channel)

    @property
    def runs(self) -> Any:
        return run_pb2_grpc.RunServiceStub(self.channel)

    async def set_agent(self, **spec: Any) -> None:
        """What the agent is that is bound to everything: one of the fake runner, by default without a box."""
        wanted = AgentSpec(**{"name": AGENT, "runner_id": RUNNER, **spec})
        await self.parts.stores.database.writer.run(lambda tx: change_agent(tx, WORKSPACE, AGENT, wanted))
        self.parts.agents.forget(WORKSPACE, AGENT)
        self.parts.bindings.forget(GLOBAL_WORKSPACE)

    async def add_agent(self, agent_id: str, **spec: Any) -> None:
        """One more agent of the fake runner, bound to nothing."""
        wanted = AgentSpec(**{"name": agent_id, "runner_id": RUNNER, **spec})
        writer = self.parts.stores.database.writer
        await writer.run(lambda tx: add_agent(tx, WORKSPACE, agent_id, wanted, ManagedBy.API))

    async def bind(self, agent_id: str, **spec: Any) -> str:
        """One more binding."""
        wanted = BindingSpec(agent_id=agent_id, **spec)
        owner = GLOBAL_WORKSPACE if wanted.scope is BindingScope.GLOBAL else WORKSPACE
        binding_id = new_id("bnd")
        writer = self.parts.stores.database.writer
        await writer.run(lambda tx: add_binding(tx, owner, binding_id, wanted, ManagedBy.API))
        self.parts.bindings.forget(owner)
        return binding_id

    async def submit(
        self, event: event_pb2.Event | str = "hi", key: str = "", agent_id: str = "", **more: Any
    ) -> event_pb2.SubmitEventResponse:
        """Submit a message, or any event, with a key of its own if a test names none."""
        message = a_message(event, **more) if isinstance(event, str) else event
        request = event_pb2.SubmitEventRequest(event=message, idempotency_key=key or new_id("key"), agent_id=agent_id)
        with errors_by_meaning():
            answer: event_pb2.SubmitEventResponse = await self.events.SubmitEvent(request)
        return answer

    async def watch(self, run_id: str, after: int = 0, **more: Any) -> list[run_pb2.RunEvent]:
        """Every event to the end of the run."""
        request = run_pb2.WatchRunRequest(run_id=run_id, after_sequence=after, **more)
        found: list[run_pb2.RunEvent] = []
        with errors_by_meaning():
            async for response in self.runs.WatchRun(request):
                found.extend(response.events)
        return found

    async def run(self, run_id: str) -> run_pb2.Run:
        with errors_by_meaning():
            answer: run_pb2.GetRunResponse = await self.runs.GetRun(run_pb2.GetRunRequest(run_id=run_id))
        return answer.run

    async def ended(self, run_id: str) -> run_pb2.Run:
        """The run after its end."""
        await self.watch(run_id, committed_only=True)
        return await self.run(run_id)

    async def asked(self, text: str = "hi", **more: Any) -> run_pb2.Run:
        """A message and the run that answered it, after its end."""
        return await self.ended((await self.submit(text, **more)).run_id)

    async def transcript(self, conversation_id: str) -> list[Any]:
        """Every item of a conversation."""
        query = PageQuery(conversation_id=conversation_id, cursor=0, limit=1000, order=Order.FORWARD)
        items: list[Any] = await self.parts.stores.transcript.page(WORKSPACE, query)
        return items

    @asynccontextmanager
    async def runner(self, token: str) -> AsyncIterator[Any]:
        """The unary calls of a run, with its token."""
        async with open_channel(self.address, token=token) as channel:
            yield runner_service_pb2_grpc.RunnerServiceStub(channel)


def text_of(events: Sequence[run_pb2.RunEvent], key: str = "answer") -> str:
    """The text of one message as a watcher puts it together: by offsets, from provisional and committed chunks."""
    text = ""
    for event in events:
        if event.WhichOneof("kind") == "reset":
            text = ""
        delta = event.message_delta
        if event.WhichOneof("kind") != "message_delta" or delta.message_key != key or delta.reasoning:
            continue
        if event.text_offset > len(text) and not event.sequence:
            # Provisional text from beyond what came so far: the committed chunk before it is on its way.
            continue
        assert event.text_offset <= len(text), "a committed chunk came before the one that it continues"
        text += delta.text[len(text) - event.text_offset :]
    return text


def _read(path: Path) -> str:
    return path.read_text().strip()


def _credential(folder: Path, part: str, token: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{part}.credential"
    path.write_text(token)
    return path


@asynccontextmanager
async def hosted(
    folder: Path,
    runtime: FakeRuntime | None,
    *,
    box: FakeBox | None = None,
    limits: HostLimits = LIMITS,
    models: ModelsConfig | None = None,
    outbound: OutboundPolicy | None = None,
    telemetry: TelemetryConfig | None = None,
    file: Path | None = None,
    **more: Any,
) -> AsyncIterator[Hosted]:
    """A host on its own folder; the same folder again is the same host after a good stop."""
    credential = _credential(folder, "runtime", runtime.token if runtime else "")
    box_credential = _credential(folder, "box", box.token if box else "")
    config = Config(
        host=HostConfig(
            listen="127.0.0.1:0",
            data=folder / "host",
            runtime=runtime.address if runtime else "",
            runtime_credential=credential,
            box=box.address if box else "",
            box_credential=box_credential,
            admin_token_file=folder / "admin.token",
            limits=limits,
            **more,
        ),
        models=models or ModelsConfig(demo=DemoConfig(slow_chunk_seconds=0.0)),
        outbound=outbound or OutboundPolicy(),
        telemetry=telemetry or TelemetryConfig(),
        file=file,
    )
    async with run_host(config) as host:
        token = _read(folder / "admin.token")
        async with open_channel(host.server.address, token=token) as channel:
            yield Hosted(host, channel, token)
