"""The host's end of runs, over the wire: sends the start, answers calls, and keeps what the run says."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from portway.rpc.channel import PortwayChannel
from portway.rpc.client_stream import send
from portway.rpc.errors import PortwayError
from portway.rpc.status import error_from_rpc
from portway.runtime.sdk.testing.host import FakeHost
from portway.runtime.sdk.testing.things import Things
from portway.runtime.sdk.types.context import Permissions
from portway.v1 import run_agent_pb2 as pb
from portway.v1 import run_call_pb2, run_context_pb2, run_result_pb2

EVERYTHING = Permissions(
    frozenset(
        "models_invoke models_stream tools_call history_page state storage_plugin".split()
        + "artifacts_metadata artifacts_read artifacts_write".split()
    )
)


@dataclass(slots=True)
class Run:
    """One run as the host sees it."""

    call: Any
    host: FakeHost
    answering: asyncio.TaskGroup
    results: list[run_result_pb2.RunResult] = field(default_factory=list)
    frame_count: int = 0
    message_count: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    _uploads: dict[int, tuple[run_call_pb2.RunCall, bytearray]] = field(default_factory=dict)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def send(self, *frames: pb.RunInputFrame) -> None:
        async with self._writing:
            await send(self.call, pb.RunAgentRequest(frames=frames).SerializeToString())

    async def cancel(self, reason: str = "the person stopped it") -> None:
        await self.send(pb.RunInputFrame(cancel=pb.RunCancel(reason=reason)))

    async def read(self) -> bool:
        """Takes the next message; False at the end of the stream. Raises what the runtime answered as its status."""
        return await self.read_some() is not None

    async def read_some(self) -> int | None:
        """The same; how many bytes it had, None at the end."""
        try:
            raw = await self.call.read()
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from None
        if raw is grpc.aio.EOF:
            return None
        self.message_count += 1
        for frame in pb.RunAgentResponse.FromString(raw).frames:
            self.frame_count += 1
            if frame.HasField("result"):
                self.results.append(frame.result)
            elif not frame.call.cancel:
                self._take(frame.call)
        return len(raw)

    async def until(self, kind: str) -> run_result_pb2.RunResult:
        """The first result of a kind."""
        while True:
            for result in self.results:
                if result.WhichOneof("kind") == kind:
                    return result
            assert await self.read(), f"the run ended without a {kind}: {self.results}"

    async def until_end(self) -> "Run":
        while await self.read():
            pass
        return self

    async def failure(self) -> PortwayError:
        """What the stream ends with."""
        try:
            await self.until_end()
        except PortwayError as error:
            return error
        raise AssertionError(f"the run ended well: {self.results}")

    @property
    def kinds(self) -> list[str]:
        return [result.WhichOneof("kind") or "" for result in self.results]

    @property
    def message(self) -> str:
        """The text of the only completed message."""
        completed = [result.message_completed for result in self.results if result.HasField("message_completed")]
        assert len(completed) == 1, self.results
        return "".join(part.text.text for part in completed[0].message.parts)

    @property
    def error(self) -> run_result_pb2.RunError:
        assert self.kinds[-1] == "run_failed", self.results
        return self.results[-1].run_failed.error

    def _take(self, call: run_call_pb2.RunCall) -> None:
        request = getattr(call, call.WhichOneof("kind") or "")
        first, data = self._uploads.setdefault(call.call_id, (call, bytearray()))
        data += getattr(request, "data", b"")
        if not call.more:
            del self._uploads[call.call_id]
            self.answering.create_task(self._answer(first, bytes(data)))

    async def _answer(self, call: run_call_pb2.RunCall, data: bytes) -> None:
        async for answer in self.host.answer(call, data):
            await self.send(pb.RunInputFrame(answer=answer))


class HostEnd:
    """Opens runs on a runtime, of `runner_id` unless a run names another."""

    def __init__(self, channel: PortwayChannel, runner_id: str) -> None:
        self.channel = channel
        self.runner_id = runner_id
        self._count = 0

    @asynccontextmanager
    async def run(
        self,
        text: str,
        runner_id: str = "",
        *,
        things: Things | None = None,
        permissions: Permissions = EVERYTHING,
        config: dict[str, Any] | None = None,
        credit: int = 0,
        epoch: int | None = None,
        first: Sequence[bytes] = (),
        about: run_context_pb2.RunContext | None = None,
    ) -> AsyncIterator[Run]:
        """A run under way; leaving the block cancels its call. `first` replaces the start, `about` adds to its
        context."""
        metadata = [] if epoch is None else [("portway-host-epoch", str(epoch))]
        call = self.channel.stream_stream("/portway.v1.RuntimeService/RunAgent")(metadata=metadata)
        self._count += 1
        things = things or Things()
        context = pb.RunStart(runner_id=runner_id or self.runner_id, credit_bytes=credit)
        context.context.run_id = f"run_{self._count}"
        context.context.attempt = 1
        context.context.input.text = text
        context.context.context.latest_cursor = str(len(things.history))
        context.context.config.update(config or {})
        if about is not None:
            context.context.MergeFrom(about)
        start = pb.RunAgentRequest(frames=[pb.RunInputFrame(start=context)])
        try:
            async with asyncio.TaskGroup() as answering:
                for raw in first or [start.SerializeToString()]:
                    await send(call, raw)
                yield Run(call, FakeHost(things, permissions), answering)
        finally:
            call.cancel()

    async def finished(self, text: str, runner_id: str = "", **options: Any) -> Run:
        """A run that came to its end."""
        async with self.run(text, runner_id, **options) as run:
            return await run.until_end()
