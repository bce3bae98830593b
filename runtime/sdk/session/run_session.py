"""One run: reads what the host says, lets the runner speak, and ends with exactly one terminal result."""

import asyncio
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Protocol

from google.protobuf.message import DecodeError

from portway.rpc.errors import InvalidInput, Reason
from portway.runtime.sdk.host.api import HostApi
from portway.runtime.sdk.runner import AgentRunner
from portway.runtime.sdk.session.calls import Calls
from portway.runtime.sdk.session.clock import RunClock
from portway.runtime.sdk.session.encode import ResultEncoder, ResultRefused
from portway.runtime.sdk.session.failures import failed
from portway.runtime.sdk.session.outbox import Outbox
from portway.runtime.sdk.session.steering import Steering
from portway.runtime.sdk.types.context import RunContext
from portway.runtime.sdk.types.convert import read
from portway.runtime.sdk.types.results import RunCompleted, RunError, RunFailed, RunResult
from portway.v1 import run_agent_pb2 as pb


class RunStream(Protocol):
    """The run's stream, in messages as bytes."""

    async def read(self) -> bytes | None:
        """The next message, None after the last."""
        ...

    async def write(self, message: bytes) -> None: ...


def parse_frames(raw: bytes) -> list[pb.RunInputFrame]:
    """Raises `InvalidInput` for bytes that are no frames."""
    message = pb.RunAgentRequest()
    try:
        message.ParseFromString(raw)
    except DecodeError:
        raise InvalidInput("the message is no RunAgentRequest", reason=Reason.UNPARSABLE_MESSAGE) from None
    return list(message.frames)


class RunSession:
    """Runs one runner over one stream."""

    def __init__(self, stream: RunStream, start: pb.RunStart, make_runner: Callable[[], AgentRunner]) -> None:
        self.context = read(RunContext, start.context)
        self._stream = stream
        self._run_token = start.run_token
        self._bridge_token = start.bridge_token
        self._make_runner = make_runner
        self._encoder = ResultEncoder(start.context.run_id)
        self._outbox = Outbox(stream.write, start.credit_bytes)
        self._calls = Calls(self._outbox, RunClock(self.context.runtime.deadline))
        self._steering = Steering(self._calls)
        self._running: asyncio.Task[None] | None = None
        self._cancel_reason: str | None = None
        self._ended = False

    async def execute(self, first: list[pb.RunInputFrame]) -> None:
        """Returns when the terminal result is sent. `first` came with the start; cancelling ends everything at once."""
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(self._read(first))
            pump = group.create_task(self._outbox.pump())
            self._running = group.create_task(self._run())
            await asyncio.wait([self._running])
            self._outbox.close()
            await asyncio.wait([pump])
            reader.cancel()

    async def _read(self, first: list[pb.RunInputFrame]) -> None:
        frames: list[pb.RunInputFrame] | None = first
        while frames is not None:
            for frame in frames:
                self._take(frame)
            raw = await self._stream.read()
            frames = None if raw is None else parse_frames(raw)
        # The host has nothing more to say; a runner that asks nothing may go on.
        self._calls.close()
        self._steering.close()

    def _take(self, frame: pb.RunInputFrame) -> None:
        match frame.WhichOneof("kind"):
            case "answer":
                self._calls.on_answer(frame.answer)
            case "credit":
                self._outbox.add_credit(frame.credit.bytes)
            case "steer":
                self._steering.arrive()
            case "approval":
                pending = frame.approval.state == pb.APPROVAL_STATE_PENDING
                self._calls.pause(frame.approval.approval_id, pending)
            case "cancel":
                self._cancel(frame.cancel.reason)
            case "start":
                raise InvalidInput("a run is started once", reason=Reason.UNEXPECTED_FRAME)
            case _:
                # A kind of a later version of the contract.
                pass

    def _cancel(self, reason: str) -> None:
        if self._cancel_reason is None and self._running is not None:
            self._cancel_reason = reason
            self._running.cancel()

    async def _run(self) -> None:
        terminal = await self._outcome()
        if not self._ended:
            self._outbox.put(self._encoder.encode(terminal), urgent=True)

    async def _outcome(self) -> RunCompleted | RunFailed:
        """What the run ends with, unless the runner has sent a terminal result of its own."""
        try:
            await self._speak()
        except asyncio.CancelledError:
            if self._cancel_reason is not None:
                return RunFailed(RunError("cancelled", self._cancel_reason or "the run was cancelled"))
            if is_being_cancelled():
                raise
            return RunFailed(RunError("runner.error", "the runner cancelled itself"))
        except Exception as error:  # noqa: BLE001 - whatever an author's code raises ends its run, and only that
            traceback.print_exception(error, file=sys.stderr)
            return failed(error)
        return RunCompleted()

    async def _speak(self) -> None:
        results = self._make_runner().run(
            self.context, HostApi(self._calls, self._steering, self._run_token, self._bridge_token)
        )
        if not isinstance(results, AsyncIterator):
            raise _not_iterable(results)
        try:
            await self._forward(results)
        finally:
            # What a runner does after its last result, and in `finally`, is done before the run ends.
            close = getattr(results, "aclose", None)
            if close is not None:
                await close()

    async def _forward(self, results: AsyncIterator[RunResult]) -> None:
        """Sends what the runner yields, up to a terminal result."""
        iterator = aiter(results)
        encode, outbox = self._encoder.encode, self._outbox
        refused: ResultRefused | None = None
        while True:
            try:
                result = await (anext(iterator) if refused is None else _throw(iterator, refused))
            except StopAsyncIteration:
                return
            try:
                frame = encode(result)
            except ResultRefused as error:
                refused = error
                await asyncio.sleep(0)
                continue
            refused = None
            outbox.put(frame)
            if type(result) is RunCompleted or type(result) is RunFailed:
                self._ended = True
                return
            if outbox.full:
                await outbox.room()


def _not_iterable(returned: object) -> ResultRefused:
    if isinstance(returned, Coroutine):
        returned.close()
        return ResultRefused("run() has no `yield`, so it says nothing; yield results, such as MessageCompleted")
    return ResultRefused(f"run() returned {type(returned).__name__}; it must yield results")


def is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _throw(iterator: AsyncIterator[RunResult], error: ResultRefused) -> RunResult:
    """Raises `error` where the runner yields; it may yield something else instead."""
    throw = getattr(iterator, "athrow", None)
    if throw is None:
        raise error
    result: RunResult = await throw(error)
    return result
