"""A strict plugin runtime for tests of the host: one runner whose every frame a test writes by hand."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Never

from portway.rpc.binding import Service
from portway.rpc.call import Call
from portway.rpc.identity import Caller, Role
from portway.rpc.serving import serve
from portway.rpc.tokens import FixedTokens, mint_token
from portway.v1 import content_pb2, run_agent_pb2, run_call_pb2, runner_pb2, runtime_pb2

RUNNER = "plugin:tests/fake/runner"
EVERYTHING = tuple(one.name for one in runner_pb2.RunnerPermissions.DESCRIPTOR.fields if one.type == one.TYPE_BOOL)

RunStream = Call[run_agent_pb2.RunAgentRequest, run_agent_pb2.RunAgentResponse]


def a_manifest(
    *, permissions: Sequence[str] = EVERYTHING, capabilities: Sequence[str] = (), **more: Any
) -> runner_pb2.RunnerManifest:
    """A runner that may do everything and whose capabilities a test names."""
    granted = runner_pb2.RunnerPermissions(history_scope=runner_pb2.HISTORY_SCOPE_WORKSPACE)
    for name in permissions:
        setattr(granted, name, True)
    able = runner_pb2.RunnerCapabilities(
        **{name: True for name in ("streaming", "tool_calling", "event_context", *capabilities)}
    )
    return runner_pb2.RunnerManifest(
        id=RUNNER, name="runner", protocol_version=1, capabilities=able, permissions=granted, **more
    )


class FakeRun:
    """One run as the runner sees it. Results are numbered; whatever else is sent is sent as it is."""

    def __init__(self, call: RunStream, start: run_agent_pb2.RunStart) -> None:
        self._call = call
        self.start = start
        self.sequence = 0
        self.cancelled = asyncio.Event()
        self.steers: list[Any] = []
        self.approvals: list[Any] = []
        self.steered = asyncio.Event()
        self.reason = ""
        self.answers: dict[int, asyncio.Queue[run_call_pb2.RunAnswer]] = {}
        self.last_call = 0
        self._writing = asyncio.Lock()

    @property
    def context(self) -> Any:
        return self.start.context

    def result(self, **kind: Any) -> run_agent_pb2.RunOutputFrame:
        """The next result, numbered."""
        self.sequence += 1
        frame = run_agent_pb2.RunOutputFrame()
        frame.result.run_id, frame.result.sequence = self.start.context.run_id, self.sequence
        for name, value in kind.items():
            target = getattr(frame.result, name)
            target.SetInParent()
            target.MergeFrom(type(target)(**value) if isinstance(value, dict) else value)
        return frame

    async def send(self, *frames: run_agent_pb2.RunOutputFrame) -> None:
        # A stream has one writer at a time.
        async with self._writing:
            await self._call.write(run_agent_pb2.RunAgentResponse(frames=frames))

    async def say(self, text: str, key: str = "answer") -> None:
        """A piece of a message."""
        await self.send(self.result(message_delta={"message_key": key, "text": text}))

    def message(self, text: str, key: str = "") -> run_agent_pb2.RunOutputFrame:
        part = content_pb2.ContentPart(text=content_pb2.TextPart(text=text))
        return self.result(message_completed={"message_key": key, "message": content_pb2.Message(parts=[part])})

    def completed(self) -> run_agent_pb2.RunOutputFrame:
        return self.result(run_completed={"finish_reason": "FINISH_REASON_STOP"})

    async def answer(self, text: str) -> None:
        """A whole message and a good end."""
        await self.send(self.message(text), self.completed())

    async def ask_all(self, name: str, *requests: Any) -> list[run_call_pb2.RunAnswer]:
        """Every answer to one call, the last one last."""
        self.last_call += 1
        call_id = self.last_call
        answers = self.answers[call_id] = asyncio.Queue()
        for index, request in enumerate(requests):
            frame = run_agent_pb2.RunOutputFrame()
            frame.call.call_id, frame.call.more = call_id, index < len(requests) - 1
            target = getattr(frame.call, name)
            target.SetInParent()
            target.MergeFrom(request)
            await self.send(frame)
        found = [await answers.get()]
        while found[-1].more:
            found.append(await answers.get())
        return found

    async def cancel_call(self, call_id: int) -> None:
        frame = run_agent_pb2.RunOutputFrame()
        frame.call.call_id, frame.call.cancel = call_id, True
        await self.send(frame)

    async def ask(self, name: str, *requests: Any) -> Any:
        """The only answer to a call: its response, or its error."""
        answer = (await self.ask_all(name, *requests))[-1]
        return answer.error if answer.HasField("error") else getattr(answer, name)

    def take(self, frame: run_agent_pb2.RunInputFrame) -> None:
        match frame.WhichOneof("kind"):
            case "cancel":
                self.reason = frame.cancel.reason
                self.cancelled.set()
            case "steer":
                self.steers.append(frame.steer)
                self.steered.set()
            case "answer":
                self.answers[frame.answer.call_id].put_nowait(frame.answer)
            case "approval":
                self.approvals.append(frame.approval)
            case "credit":
                pass
            case other:
                raise AssertionError(f"the host sent {other} to a run that has started")


Script = Callable[[FakeRun], Awaitable[None]]


async def answer_hello(run: FakeRun) -> None:
    await run.answer(f"hello, {run.context.input.text}")


@dataclass
class FakeRuntime:
    """`script` plays the runner; `manifest` is what it says of itself."""

    script: Script = answer_hello
    manifest: runner_pb2.RunnerManifest = field(default_factory=a_manifest)
    runs: list[FakeRun] = field(default_factory=list)
    recycled: list[str] = field(default_factory=list)
    epochs: list[str | None] = field(default_factory=list)
    traceparents: list[str | None] = field(default_factory=list)
    address: str = ""
    token: str = ""

    async def RunAgent(self, call: RunStream) -> None:
        first = await call.read()
        assert first is not None and first.frames[0].HasField("start"), "the first frame is the start"
        self.epochs.append(call.header("portway-host-epoch"))
        self.traceparents.append(call.header("traceparent"))
        run = FakeRun(call, first.frames[0].start)
        self.runs.append(run)
        for frame in first.frames[1:]:
            run.take(frame)
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(self._listen(call, run))
            await self.script(run)
            listening.cancel()

    async def _listen(self, call: RunStream, run: FakeRun) -> None:
        while (request := await call.read()) is not None:
            for frame in request.frames:
                run.take(frame)

    async def WatchRunners(
        self, request: runtime_pb2.WatchRunnersRequest, call: Call[None, runtime_pb2.WatchRunnersResponse]
    ) -> None:
        await call.write(
            runtime_pb2.WatchRunnersResponse(snapshot=runtime_pb2.RunnersSnapshot(runners=[self.manifest]))
        )
        await call.draining.wait()

    async def RecyclePlugin(
        self, request: runtime_pb2.RecyclePluginRequest, call: Call[Never, Never]
    ) -> runtime_pb2.RecyclePluginResponse:
        self.recycled.append(request.plugin_id)
        return runtime_pb2.RecyclePluginResponse()


@asynccontextmanager
async def serve_fake_runtime(runtime: FakeRuntime) -> AsyncIterator[FakeRuntime]:
    """Serves it; `address` and `token` say where and with what it is dialled."""
    token = mint_token("service")
    runtime.token = token.text
    authenticator = FixedTokens([(token.text, Caller(Role.RUNTIME, "*", token.token_id))])
    descriptor = runtime_pb2.DESCRIPTOR.services_by_name["RuntimeService"]
    async with serve(
        [Service(descriptor, runtime)], address="127.0.0.1:0", authenticator=authenticator, grace=0.1
    ) as server:
        runtime.address = server.address
        yield runtime
