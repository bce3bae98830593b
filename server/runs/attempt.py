"""One attempt at a run: the conversation with its runner, from the first frame to the last."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from portway.rpc.errors import InvalidInput, PortwayError, Reason
from portway.rpc.tokens import MintedToken
from portway.rpc.validation import parse
from portway.server.deliveries.typing_signs import Sign
from portway.server.runner_calls.operations import Operation
from portway.server.runner_calls.pipeline import Pipeline
from portway.server.runner_calls.prompt import steering_message
from portway.server.runner_calls.scope import RunScope
from portway.server.runs import ending as ends
from portway.server.runs.assignment import Assignment
from portway.server.runs.clock import RunClock
from portway.server.runs.ending import Completed, Ending, Failed, LeftBehind, ProtocolBroken, Superseded
from portway.server.runs.journal import Journal
from portway.server.runs.outgoing import Outgoing
from portway.server.runs.pending import Arrival
from portway.server.runs.results import MAX_RESULT_BYTES, Results, TextRun
from portway.server.runs.types import Failure, SteerState
from portway.server.runtimes.link import RuntimeLink
from portway.server.runtimes.stream import RunStream
from portway.server.storage_engine.clock import SECOND, now
from portway.v1 import run_agent_pb2, run_call_pb2, run_pb2, run_result_pb2

GRACE_SECONDS = 5.0
STREAM_MARGIN_SECONDS = 5.0
# After its terminal result the runner's stream ends; how long that is waited for, so that a result after it is noticed.
END_SECONDS = 0.25
CREDIT_BYTES = 8 * 1024 * 1024
CREDIT_STEP_BYTES = 1024 * 1024


@dataclass(slots=True)
class Stop:
    """Why a run is to end before its runner ends it. `code` is what becomes of it where the runner does not."""

    code: str
    reason: str


@dataclass(slots=True, eq=False)
class Attempt:
    """Everything of one live attempt. `goes_on`: another attempt follows it."""

    assignment: Assignment
    scope: RunScope
    journal: Journal
    results: Results
    token: MintedToken
    bridge_token: MintedToken
    clock: RunClock
    sign: Sign
    grace: float = GRACE_SECONDS
    stop: Stop | None = None
    unresponsive: bool = False
    goes_on: bool = False
    generation: str = ""
    pipeline: Pipeline | None = None
    _outgoing: Outgoing = field(default_factory=Outgoing)
    _patience: asyncio.Timeout | None = None
    _left: bool = False

    def request_stop(self, code: str, reason: str) -> None:
        """Tell the runner at once; where it does not end within the grace time, the run ends without it."""
        if self.stop is not None or self.results.terminal is not None:
            return
        if self.scope.asked and code != ends.CANCELLED:
            # It has said its last word, and its end is near anyway.
            return
        self.stop = Stop(code, reason)
        changed = run_pb2.RunStateChanged(state=run_pb2.RUN_STATE_CANCELLING, reason=reason)
        self.journal.append("state_changed", run_pb2.RunEvent(state_changed=changed))
        self.results.commit()
        cancel = run_agent_pb2.RunCancel(reason=reason)
        self._outgoing.put_first(run_agent_pb2.RunInputFrame(cancel=cancel))
        self._limit(self.grace)

    def end_soon(self) -> None:
        """The run has asked people something, which ends it: the runner is told after the grace time if it goes on."""
        if self.stop is None and self.results.terminal is None and not self._left:
            asyncio.get_running_loop().call_later(self.grace, self._wind_up)

    def _wind_up(self) -> None:
        if self._patience is not None and self.stop is None and self.results.terminal is None and not self._left:
            cancel = run_agent_pb2.RunCancel(reason="it asked a person; the answer starts a new run")
            self._outgoing.put_first(run_agent_pb2.RunInputFrame(cancel=cancel))
            self._limit(self.grace)

    @property
    def is_left(self) -> bool:
        """This host stops and leaves the run to the next one."""
        return self._left

    def tell(self, frame: run_agent_pb2.RunInputFrame) -> None:
        """Something for the runner."""
        self._outgoing.put(frame)

    def leave(self) -> None:
        """This host stops and does not wait any longer: the run is left for the next one."""
        self._left = True
        self._limit(0.0)

    def lose(self) -> None:
        """Its writes are refused: nothing of it counts any more."""
        self._limit(0.0)

    def steer(self, arrival: Arrival) -> None:
        """Tell the runner that a message has arrived; it pulls it when it is ready for it."""
        self.scope.arrivals.append(arrival)
        if self.scope.ended is None:
            self.results.record_steering([arrival], SteerState.QUEUED)
        message = steering_message(arrival, self.scope.workspace_id)
        self._outgoing.put(run_agent_pb2.RunInputFrame(steer=message))

    def unsteer(self, event_id: str) -> None:
        """The message of that event was taken back before the runner pulled it."""
        gone = [one for one in self.scope.arrivals if one.event_id == event_id]
        self.scope.arrivals = [one for one in self.scope.arrivals if one.event_id != event_id]
        if self.scope.ended is None:
            self.results.record_steering(gone, SteerState.WITHDRAWN)

    async def converse(self, runtime: RuntimeLink, operations: Mapping[str, Operation]) -> Ending:
        """Run the runner to its end. Raises nothing but cancellation and bugs."""
        seconds = (self.assignment.deadline - now()) / SECOND
        self.clock.start(seconds, lambda: self.request_stop(ends.TIMEOUT, "the run's deadline is over"))
        try:
            async with asyncio.timeout(None) as self._patience:
                if self.stop is not None:
                    self._limit(self.grace)
                return await self._follow(runtime, operations, seconds)
        except TimeoutError:
            return self._abandoned()
        finally:
            self._patience = None
            self.clock.stop()
            self.results.close()

    async def _follow(self, runtime: RuntimeLink, operations: Mapping[str, Operation], seconds: float) -> Ending:
        runner_id = self.assignment.snapshot.runner.runner_id
        try:
            stream = runtime.open_run(seconds + self.grace + STREAM_MARGIN_SECONDS + self.clock.longest_pause)
        except PortwayError as error:
            return ends.of_stream_error(error, runner_id)
        async with stream, asyncio.TaskGroup() as group:
            self.pipeline = Pipeline(self.scope, operations, self, group, self._writes_are_seen)
            writing: asyncio.Task[None] | None = None
            try:
                await stream.write(self._start())
                self._announce_arrivals()
                writing = group.create_task(self._outgoing.write_to(stream))
                return await self._read(stream)
            except PortwayError as error:
                return self._stopped() or ends.of_stream_error(await _reason(stream, error), runner_id)
            except ProtocolBroken as error:
                return self._awaiting() or ends.failed(ends.PROTOCOL, f"{runner_id} broke the protocol: {error}.")
            finally:
                self.pipeline.close()
                if writing is not None:
                    writing.cancel()

    def _announce_arrivals(self) -> None:
        """Messages that an earlier attempt did not take."""
        for arrival in self.scope.arrivals:
            message = steering_message(arrival, self.scope.workspace_id)
            self._outgoing.put(run_agent_pb2.RunInputFrame(steer=message))

    async def _read(self, stream: RunStream) -> Ending:
        taken = 0
        while True:
            raw = await stream.read()
            if raw is None:
                return self._ended()
            if not self.generation:
                self.generation = await stream.generation()
            try:
                message = parse(run_agent_pb2.RunAgentResponse, raw)
            except InvalidInput:
                raise ProtocolBroken("it sent bytes that are no message") from None
            _check_sizes(message, raw)
            await self._take(message)
            if self.results.terminal is not None:
                # What may still come is looked at, but not waited for long.
                self._limit(END_SECONDS)
                continue
            await self.journal.room()
            taken += len(raw)
            if taken >= CREDIT_STEP_BYTES:
                credit = run_agent_pb2.RunCredit(bytes=taken)
                self._outgoing.put(run_agent_pb2.RunInputFrame(credit=credit))
                taken = 0

    async def _take(self, message: run_agent_pb2.RunAgentResponse) -> None:
        """Frames in order. Neighbouring text of one message is joined on the way: most of what a run says is text."""
        results = self.results
        text = TextRun(results)
        for frame in message.frames:
            kind = frame.WhichOneof("kind")
            if kind == "result":
                result = frame.result
                what = result.WhichOneof("kind")
                results.expect(result.sequence)
                if what == "message_delta" and text.joins(result):
                    continue
                text.end()
                await results.take(result, what)
            elif kind == "call":
                text.end()
                await self._call(frame.call)
        text.end()
        if results.terminal is None:
            results.commit()

    async def _call(self, call: run_call_pb2.RunCall) -> None:
        if self.pipeline is not None and self.results.terminal is None:
            await self.pipeline.take(call)

    async def _writes_are_seen(self) -> None:
        """A call sees what the results before it have written."""
        if self.journal.has_writes:
            self.results.flush()
            await self.journal.settled()

    def answer(self, answer: run_call_pb2.RunAnswer) -> None:
        self._outgoing.put(run_agent_pb2.RunInputFrame(answer=answer))

    async def room(self) -> None:
        await self._outgoing.room()

    def _start(self) -> bytes:
        start = run_agent_pb2.RunStart(
            runner_id=self.assignment.snapshot.runner.runner_id,
            context=self.assignment.context,
            credit_bytes=CREDIT_BYTES,
            run_token=self.token.text,
            bridge_token=self.bridge_token.text,
        )
        frame = run_agent_pb2.RunInputFrame(start=start)
        return run_agent_pb2.RunAgentRequest(frames=[frame]).SerializeToString()

    def _limit(self, seconds: float) -> None:
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time() + seconds)

    def _ended(self) -> Ending:
        """The runner's stream came to its own end."""
        terminal = self.results.terminal
        if terminal is None:
            runner_id = self.assignment.snapshot.runner.runner_id
            message = f"{runner_id} ended its stream without saying whether it completed or failed."
            return self._stopped() or ends.failed(ends.NO_TERMINAL_RESULT, message)
        if terminal.HasField("run_completed"):
            return self._awaiting(terminal.sequence) or _completed(terminal)
        return self._awaiting(terminal.sequence) or self._failed(terminal)

    def _awaiting(self, sequence: int = 0) -> Completed | None:
        """A run that has asked ends with that, whatever its runner does then; only a cancel ends it otherwise."""
        if not self.scope.asked or self.stop is not None:
            return None
        terminal = self.results.terminal
        if terminal is not None and terminal.HasField("run_failed"):
            error = terminal.run_failed.error
            if error.code != ends.CANCELLED:
                said = run_pb2.RunRecorded(
                    reason="FAILED_AFTER_ASKING", summary=f"{error.code}: {error.message}"[:1000]
                )
                self.journal.append("recorded", run_pb2.RunEvent(recorded=said), sequence, sequence)
        return Completed(ends.AWAITING, sequence)

    def _failed(self, terminal: run_result_pb2.RunResult) -> Ending:
        error = terminal.run_failed.error
        if self.stop is not None:
            # That it was cancelled is our own doing: what counts is why.
            return ends.failed(self.stop.code, self.stop.reason, retryable=self.stop.code == ends.TIMEOUT)
        code = error.code or ends.ERROR
        if code == ends.CANCELLED:
            code = ends.ERROR
        failure = Failure(code, error.message or "the runner gave no reason", error.retryable)
        details = error.details.SerializeToString() if error.HasField("details") else b""
        return Failed(failure, terminal.sequence, details)

    def _stopped(self) -> Ending | None:
        if self.stop is None:
            return self._awaiting()
        return ends.failed(self.stop.code, self.stop.reason, retryable=self.stop.code == ends.TIMEOUT)

    def _abandoned(self) -> Ending:
        """The time in which something had to come is over."""
        if self.journal.superseded:
            return Superseded()
        if self.journal.failure is not None:
            return ends.failed(
                ends.HOST_ERROR, f"The run could not be recorded: {self.journal.failure}", retryable=True
            )
        if self._left:
            return LeftBehind()
        if self.results.terminal is not None:
            return self._ended()
        self.unresponsive = True
        stopped = self._stopped()
        assert stopped is not None, "only a stop, an end or a loss sets a limit"
        return stopped


def _completed(terminal: run_result_pb2.RunResult) -> Completed:
    reason = run_result_pb2.FinishReason.Name(terminal.run_completed.finish_reason or run_result_pb2.FINISH_REASON_STOP)
    return Completed(reason.removeprefix("FINISH_REASON_").lower(), terminal.sequence)


def _check_sizes(message: run_agent_pb2.RunAgentResponse, raw: bytes) -> None:
    if len(raw) <= MAX_RESULT_BYTES:
        return
    for frame in message.frames:
        if frame.HasField("result") and frame.result.ByteSize() > MAX_RESULT_BYTES:
            raise ProtocolBroken(f"it sent a result of more than {MAX_RESULT_BYTES} bytes")


async def _reason(stream: RunStream, error: PortwayError) -> PortwayError:
    """A write that failed does not say why the stream ended; reading does."""
    if error.reason != Reason.UNREACHABLE:
        return error
    try:
        while await stream.read() is not None:
            pass
    except PortwayError as told:
        return told
    return error
