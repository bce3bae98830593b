"""What a runner says, in its order: text fans out at once, everything else goes through the ledger."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from portway.rpc.errors import LimitExceeded, PortwayError
from portway.rpc.validation import check
from portway.server.runs.draft import Chunk, Draft
from portway.server.runs.ending import ProtocolBroken
from portway.server.runs.feed import RunFeed
from portway.server.runs.journal import Journal
from portway.server.runs.pending import Arrival
from portway.server.runs.side_effects import SideEffects
from portway.server.runs.types import SteerState
from portway.server.runs.usage import UsageSum
from portway.server.runs.voice import Voice
from portway.server.storage_engine.clock import now
from portway.v1 import run_pb2, run_result_pb2

MAX_RESULT_BYTES = 1024 * 1024
FLUSH_SECONDS = 0.2
MAX_ARGUMENT_BYTES = 64 * 1024

# Kinds that change something are refused when they break a rule; the others only tell, and are read leniently.
_CHECKED = frozenset({"message_completed", "artifact_created", "state_updated", "action_requested"})

Result = run_result_pb2.RunResult
_Handler = Callable[[Result, int], Awaitable[None]]


class Results:
    """Takes the results of one attempt. `streams`: text is shown while it is written."""

    def __init__(
        self, *, journal: Journal, feed: RunFeed, voice: Voice, effects: SideEffects, usage: UsageSum, streams: bool
    ) -> None:
        self._journal = journal
        self._feed = feed
        self._voice = voice
        self._effects = effects
        self._usage = usage
        self._streams = streams
        self._draft = Draft()
        self._expected = 1
        self._timer: asyncio.TimerHandle | None = None
        self.terminal: Result | None = None
        self._handlers: dict[str, _Handler] = {
            "message_delta": self._take_part,
            "message_completed": self._take_message,
            "tool_call_started": self._take_tool_start,
            "tool_call_completed": self._take_tool_end,
            "artifact_created": self._take_artifact,
            "state_updated": self._take_state,
            "action_requested": self._take_action,
            "progress": self._take_progress,
        }
        feed.draft = self._draft_payloads

    @property
    def has_completed(self) -> bool:
        """Whether the runner said that it completed."""
        return self.terminal is not None and self.terminal.HasField("run_completed")

    def expect(self, sequence: int) -> None:
        """Every result passes here first. Raises ProtocolBroken."""
        if self.terminal is not None:
            raise ProtocolBroken("it sent a result after its terminal one")
        if sequence != self._expected:
            raise ProtocolBroken(f"it sent the result {sequence} where {self._expected} was due")
        self._expected += 1

    def take_text(self, key: str, reasoning: bool, text: str, first: int, last: int) -> None:
        """Neighbouring deltas of one message, already joined."""
        if not self._streams or not text:
            return
        if not self._draft.fits(key, reasoning):
            self._commit_draft()
        if self._draft.empty:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        try:
            chunk = self._draft.add(key, reasoning, text, first, last)
        except LimitExceeded as error:
            raise ProtocolBroken(error.message) from error
        if self._feed.watchers:
            self._feed.hint(self._provisional(chunk), self._journal.last_sequence)
        if self._draft.full:
            self.flush()

    async def take(self, result: Result, kind: str | None) -> None:
        """Any other result, after `expect`."""
        sequence = result.sequence
        self._commit_draft()
        if result.HasField("usage"):
            self._usage.reported(result.usage)
        if kind in ("run_completed", "run_failed"):
            await self._check_last_message(result, sequence)
            self.terminal = result
            return
        handler = self._handlers.get(kind or "")
        if handler is None:
            self._record("UNKNOWN_KIND", "a result of a kind that this host does not know", sequence)
            return
        try:
            if kind in _CHECKED:
                check(result)
            await handler(result, sequence)
        except PortwayError as error:
            self._record(str(error.reason), f"{kind}: {error.message}", sequence)

    async def _check_last_message(self, result: Result, sequence: int) -> None:
        last = result.run_completed
        if not (result.HasField("run_completed") and last.HasField("message")):
            return
        try:
            await self._effects.true_attachments(last.message.message)
        except PortwayError as error:
            last.ClearField("message")
            self._record(str(error.reason), f"last message: {error.message}", sequence)

    def commit(self) -> None:
        """What is more than text goes to the ledger at once, text when enough has collected."""
        if self._journal.pending:
            self._journal.flush()

    def flush(self) -> None:
        """Give everything so far to the ledger."""
        self._commit_draft()
        if self._journal.pending:
            self._journal.flush()

    def record_injected(self, arrivals: Sequence[Arrival]) -> None:
        """The runner has these messages now."""
        self.record_steering(arrivals, SteerState.INJECTED)

    def record_steering(self, arrivals: Sequence[Arrival], state: SteerState) -> None:
        """What became of messages that arrived. Nothing follows the last event of a run."""
        if self.terminal is None and arrivals:
            for arrival in arrivals:
                record_steering(self._journal, arrival, state)
            self.commit()

    def note(self, reason: str, summary: str) -> None:
        """Something about the run that is worth keeping, between its results."""
        if self.terminal is None:
            self._commit_draft()
            self._record(reason, summary, 0)
            self.commit()

    def close(self) -> None:
        """No more text: the timer must not fire into what comes after."""
        self._commit_draft()
        self._feed.draft = tuple

    def _commit_draft(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        chunk = self._draft.take()
        if chunk is not None:
            self._journal.append("message_delta", _delta_event(chunk), chunk.first, chunk.last)

    def _provisional(self, chunk: Chunk) -> bytes:
        event = _delta_event(chunk)
        event.run_id = self._feed.run_id
        event.attempt = self._journal.attempt
        event.first_runner_sequence, event.last_runner_sequence = chunk.first, chunk.last
        event.time.FromMicroseconds(now())
        return event.SerializeToString()

    def _draft_payloads(self) -> tuple[bytes, ...]:
        chunk = self._draft.peek()
        return (self._provisional(chunk),) if chunk else ()

    def _append(self, kind: str, event: run_pb2.RunEvent, result: Result, sequence: int) -> None:
        if result.HasField("usage"):
            event.usage.CopyFrom(result.usage)
        self._journal.append(kind, event, sequence, sequence)

    def _record(self, reason: str, summary: str, sequence: int) -> None:
        recorded = run_pb2.RunRecorded(reason=reason, summary=summary[:1000])
        self._journal.append("recorded", run_pb2.RunEvent(recorded=recorded), sequence, sequence)

    async def _take_part(self, result: Result, sequence: int) -> None:
        delta = result.message_delta
        kind = delta.WhichOneof("kind")
        if kind in ("text", "reasoning"):
            # It carries usage, or it would have been joined with its neighbours.
            self.take_text(delta.message_key, kind == "reasoning", getattr(delta, kind), sequence, sequence)
        elif kind == "part" and self._streams:
            self._voice.mark_part(delta.part)
            self._append("message_delta", run_pb2.RunEvent(message_delta=delta), result, sequence)

    async def _take_message(self, result: Result, sequence: int) -> None:
        usage = result.usage if result.HasField("usage") else None
        await self._effects.true_attachments(result.message_completed.message)
        self._voice.say(result.message_completed, sequence, sequence, usage)

    async def _take_tool_start(self, result: Result, sequence: int) -> None:
        started = result.tool_call_started
        if started.arguments.ByteSize() > MAX_ARGUMENT_BYTES:
            started.arguments.Clear()
            started.arguments["shortened"] = True
        self._append("tool_call_started", run_pb2.RunEvent(tool_call_started=started), result, sequence)

    async def _take_tool_end(self, result: Result, sequence: int) -> None:
        completed = result.tool_call_completed
        completed.result_text = completed.result_text[: 16 * 1024]
        self._append("tool_call_completed", run_pb2.RunEvent(tool_call_completed=completed), result, sequence)

    async def _take_progress(self, result: Result, sequence: int) -> None:
        progress = result.progress
        progress.text = progress.text[:1000]
        self._append("progress", run_pb2.RunEvent(progress=progress), result, sequence)

    async def _take_artifact(self, result: Result, sequence: int) -> None:
        artifact = await self._effects.keep_artifact(result.artifact_created)
        self._voice.attach(artifact)
        self._append("artifact_created", run_pb2.RunEvent(artifact_created=artifact), result, sequence)

    async def _take_state(self, result: Result, sequence: int) -> None:
        updated = result.state_updated
        self._effects.set_state(updated)
        shown = run_result_pb2.StateUpdated(scope=updated.scope, key=updated.key)
        self._append("state_updated", run_pb2.RunEvent(state_updated=shown), result, sequence)

    async def _take_action(self, result: Result, sequence: int) -> None:
        await self._effects.request(result.action_requested, sequence)


class TextRun:
    """Neighbouring deltas of one message within one packed message, on their way to `take_text`."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._key = ""
        self._reasoning = False
        self._pieces: list[str] = []
        self._first = 0
        self._last = 0

    def joins(self, result: Result) -> bool:
        """Take the result, if it is nothing but text."""
        delta = result.message_delta
        part = delta.WhichOneof("kind")
        if part == "part" or result.HasField("usage"):
            return False
        reasoning = part == "reasoning"
        if self._pieces and (delta.message_key != self._key or reasoning != self._reasoning):
            self.end()
        if not self._pieces:
            self._key, self._reasoning, self._first = delta.message_key, reasoning, result.sequence
        self._pieces.append(delta.reasoning if reasoning else delta.text)
        self._last = result.sequence
        return True

    def end(self) -> None:
        """Something else follows."""
        if self._pieces:
            self._results.take_text(self._key, self._reasoning, "".join(self._pieces), self._first, self._last)
            self._pieces.clear()


def _delta_event(chunk: Chunk) -> run_pb2.RunEvent:
    event = run_pb2.RunEvent(text_offset=chunk.offset)
    delta = event.message_delta
    delta.message_key = chunk.key
    if chunk.reasoning:
        delta.reasoning = chunk.text
    else:
        delta.text = chunk.text
    return event


def record_steering(journal: Journal, arrival: Arrival, state: SteerState) -> None:
    """An entry of the ledger about a message that arrived during the run."""
    steering = run_pb2.SteeringRecorded(steering_id=arrival.steering_id, event_id=arrival.event_id, outcome=state.value)
    journal.append("steering", run_pb2.RunEvent(steering=steering))
