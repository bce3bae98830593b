"""Between the contract's run events and what adapters see of a run."""

import json
from collections.abc import Iterable

from google.protobuf.json_format import MessageToDict

from portway.adapters.kit.live_types import (
    AttemptReset,
    Change,
    Chunk,
    ChunkKind,
    FileMade,
    LiveEvent,
    LiveUpdate,
    MessageDone,
    NoticeTold,
    ProgressLine,
    RunEnded,
    StateNews,
    ToolBegun,
    ToolEnded,
)
from portway.adapters.kit.wire import attachment_of, attachments_of, text_of
from portway.v1 import adapter_pb2, run_pb2, run_result_pb2

_STATES = {
    run_pb2.RUN_STATE_QUEUED: "queued",
    run_pb2.RUN_STATE_RUNNING: "running",
    run_pb2.RUN_STATE_WAITING: "waiting",
    run_pb2.RUN_STATE_CANCELLING: "cancelling",
}
_CANCELLED = "cancelled"


def update_of(update: adapter_pb2.RunUpdate) -> LiveUpdate:
    error = (update.error.code or "INTERNAL") if update.HasField("error") else ""
    return LiveUpdate(update.run_id, update.conversation_id, events_of(update.events), error)


def events_of(events: Iterable[run_pb2.RunEvent]) -> tuple[LiveEvent, ...]:
    return tuple(LiveEvent(event.sequence, event.attempt, _change_of(event)) for event in events)


def _change_of(event: run_pb2.RunEvent) -> Change | None:
    """What there is to show; None for kinds that say nothing to a person in a chat, and for kinds of later versions."""
    kind = event.WhichOneof("kind")
    reader = _READERS.get(kind) if kind is not None else None
    return reader(event) if reader is not None else None


def _chunk(event: run_pb2.RunEvent) -> Change | None:
    delta = event.message_delta
    match delta.WhichOneof("kind"):
        case "text":
            return Chunk(delta.message_key, ChunkKind.TEXT, event.text_offset, delta.text)
        case "reasoning":
            return Chunk(delta.message_key, ChunkKind.REASONING, event.text_offset, delta.reasoning)
        case _:
            # A whole part has no offset to tell a repetition by: it is shown with the completed message.
            return None


def _done(completed: run_result_pb2.MessageCompleted) -> MessageDone:
    message = completed.message
    return MessageDone(completed.message_key, message.message_id, text_of(message.parts), attachments_of(message.parts))


def _tool_begun(event: run_pb2.RunEvent) -> Change:
    started = event.tool_call_started
    arguments = json.dumps(MessageToDict(started.arguments), ensure_ascii=False)
    return ToolBegun(started.call_id, started.tool, arguments)


def _tool_ended(event: run_pb2.RunEvent) -> Change:
    ended = event.tool_call_completed
    error = (ended.error.message or ended.error.code) if ended.HasField("error") else ""
    return ToolEnded(ended.call_id, ended.tool, ended.result_text, error, ended.duration.ToMilliseconds() / 1000)


def _state(event: run_pb2.RunEvent) -> Change | None:
    state = _STATES.get(event.state_changed.state)
    return StateNews(state) if state is not None else None


def _completed(event: run_pb2.RunEvent) -> Change:
    completed = event.run_completed
    return RunEnded("completed", last=_done(completed.message) if completed.HasField("message") else None)


def _failed(event: run_pb2.RunEvent) -> Change:
    error = event.run_failed.error
    return RunEnded(_CANCELLED if error.code == _CANCELLED else "failed", error.code, error.message)


_READERS = {
    "message_delta": _chunk,
    "message_completed": lambda event: _done(event.message_completed),
    "tool_call_started": _tool_begun,
    "tool_call_completed": _tool_ended,
    "artifact_created": lambda event: FileMade(attachment_of(event.artifact_created)),
    "progress": lambda event: ProgressLine(event.progress.text),
    "state_changed": _state,
    "reset": lambda event: AttemptReset(event.reset.attempt),
    "notice": lambda event: NoticeTold(event.notice.code, event.notice.text),
    "run_completed": _completed,
    "run_failed": _failed,
}
