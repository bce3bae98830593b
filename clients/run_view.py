"""What a watcher of a run shows: provisional and committed events joined without loss or repeat."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from portway.v1 import run_pb2, run_result_pb2


@dataclass(frozen=True, slots=True)
class TextAdded:
    """New text at the end of a message that is being written."""

    message_key: str
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningAdded:
    """New reasoning; shown apart from the text or not at all."""

    message_key: str
    text: str


@dataclass(frozen=True, slots=True)
class TextDropped:
    """A new attempt begins: everything provisional of the last one is void."""

    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class MessageDone:
    """A whole message. `text` joins its text parts; it replaces what was added under its key."""

    message_key: str
    text: str
    message: run_result_pb2.MessageCompleted


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A tool call begins."""

    call: run_result_pb2.ToolCallStarted


@dataclass(frozen=True, slots=True)
class ToolDone:
    """A tool call ended."""

    call: run_result_pb2.ToolCallCompleted


@dataclass(frozen=True, slots=True)
class NoticeShown:
    """What people are told in place of an answer."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The terminal event. `error` is not set where the run ended well."""

    error: run_result_pb2.RunError | None


Change: TypeAlias = (
    TextAdded | ReasoningAdded | TextDropped | MessageDone | ToolStarted | ToolDone | NoticeShown | RunEnded
)


@dataclass(slots=True)
class RunView:
    """Applies run events in the order in which they come and tells what is new. Bounded by the run's own text."""

    last_sequence: int = 0
    attempt: int = 0
    ended: bool = False
    _text: dict[str, int] = field(default_factory=dict)
    _reasoning: dict[str, int] = field(default_factory=dict)

    def apply(self, event: run_pb2.RunEvent) -> Iterator[Change]:
        """The changes that an event brings; none where it was seen before, or belongs to an attempt that is over."""
        if event.sequence:
            if event.sequence <= self.last_sequence:
                return
            self.last_sequence = event.sequence
        elif event.attempt < self.attempt:
            return
        self.attempt = max(self.attempt, event.attempt)
        yield from self._changes(event)

    def _changes(self, event: run_pb2.RunEvent) -> Iterator[Change]:
        match event.WhichOneof("kind"):
            case "message_delta":
                yield from self._delta(event)
            case "message_completed":
                yield self._done(event.message_completed)
            case "tool_call_started":
                yield ToolStarted(event.tool_call_started)
            case "tool_call_completed":
                yield ToolDone(event.tool_call_completed)
            case "reset":
                self._text.clear()
                self._reasoning.clear()
                self.attempt = event.reset.attempt
                yield TextDropped(event.reset.attempt, event.reset.reason)
            case "notice":
                yield NoticeShown(event.notice.code, event.notice.text)
            case "run_completed":
                if event.run_completed.HasField("message"):
                    yield self._done(event.run_completed.message)
                self.ended = True
                yield RunEnded(None)
            case "run_failed":
                self.ended = True
                yield RunEnded(event.run_failed.error)
            case _:
                # A kind that this version does not show, or does not know yet.
                return

    def _delta(self, event: run_pb2.RunEvent) -> Iterator[Change]:
        delta = event.message_delta
        key = delta.message_key
        match delta.WhichOneof("kind"):
            case "text":
                added = _beyond(self._text, key, delta.text, event)
                if added:
                    yield TextAdded(key, added)
            case "reasoning":
                added = _beyond(self._reasoning, key, delta.reasoning, event)
                if added:
                    yield ReasoningAdded(key, added)
            case _:
                return

    def _done(self, completed: run_result_pb2.MessageCompleted) -> MessageDone:
        text = "".join(part.text.text for part in completed.message.parts if part.HasField("text"))
        self._text.pop(completed.message_key, None)
        self._reasoning.pop(completed.message_key, None)
        return MessageDone(completed.message_key, text, completed)


def _beyond(lengths: dict[str, int], key: str, text: str, event: run_pb2.RunEvent) -> str:
    """The part of a chunk that was not shown yet. Offsets and lengths count code points."""
    shown, offset = lengths.get(key, 0), event.text_offset
    if offset > shown:
        # Provisional text from beyond what came so far: the committed chunk before it is still on its way.
        if not event.sequence:
            return ""
        shown = offset
    lengths[key] = max(shown, offset + len(text))
    return text[shown - offset :]
