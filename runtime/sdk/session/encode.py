"""Turns results into frames: numbers them, stamps them, and refuses what is too large or is no result."""

import json
import time
from collections.abc import Callable
from typing import Any

from portway.runtime.sdk.types.content import write_part
from portway.runtime.sdk.types.convert import write, write_json
from portway.runtime.sdk.types.interactions import Interaction
from portway.runtime.sdk.types.results import (
    ActionRequested,
    ArtifactCreated,
    MessageCompleted,
    PartDelta,
    Progress,
    ReasoningDelta,
    RunCompleted,
    RunFailed,
    StateUpdated,
    TextDelta,
    ToolCallCompleted,
    ToolCallStarted,
)
from portway.v1 import run_agent_pb2, run_result_pb2

MAX_RESULT_BYTES = 1024 * 1024
MAX_RESULT_TEXT = 16 * 1024
MAX_STATE_BYTES = 256 * 1024
MAX_INLINE_BYTES = 512 * 1024

_Result = run_result_pb2.RunResult


class ResultRefused(Exception):
    """What was yielded cannot be sent. It is raised at the `yield`, so that a runner may send something else."""


class ResultEncoder:
    """Encodes the results of one run. `sequence` is that of the last result."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self.sequence = 0
        # Deltas are most of what is sent: one frame is kept and only what differs is set again.
        self._frame = run_agent_pb2.RunOutputFrame()
        self._result = self._frame.result
        self._result.run_id = run_id
        self._time = self._result.time
        self._delta = self._result.message_delta

    def encode(self, result: object) -> bytes:
        """The frame for a result. Raises `ResultRefused`; the sequence then stays as it was."""
        try:
            raw = self._encode_text(result) if type(result) is TextDelta else self._encode_other(result)
        except (TypeError, ValueError) as error:
            raise ResultRefused(f"a {type(result).__name__} has a field of a wrong type or value: {error}") from None
        if len(raw) > MAX_RESULT_BYTES:
            raise ResultRefused(
                f"a result of {len(raw):,} bytes is over the limit of {MAX_RESULT_BYTES:,}; "
                "send large content as an artifact (host.artifacts.create)"
            )
        self.sequence += 1
        return raw

    def _encode_text(self, delta: TextDelta) -> bytes:
        self._delta.text = delta.text
        self._delta.message_key = delta.message_key
        self._result.sequence = self.sequence + 1
        self._time.seconds, self._time.nanos = divmod(time.time_ns(), 1_000_000_000)
        return self._frame.SerializeToString()

    def _encode_other(self, result: object) -> bytes:
        fill = _FILLERS.get(type(result))
        if fill is None:
            raise ResultRefused(
                f"the runner yielded {type(result).__name__}, which is no result; "
                "yield what portway.runtime.sdk names in RunResult, such as TextDelta or MessageCompleted"
            )
        frame = run_agent_pb2.RunOutputFrame()
        message = frame.result
        message.run_id = self._run_id
        message.sequence = self.sequence + 1
        message.time.GetCurrentTime()
        usage = getattr(result, "usage", None)
        if usage is not None:
            write(usage, message.usage)
        fill(result, message)
        return frame.SerializeToString()


def _text(delta: TextDelta, message: _Result) -> None:
    message.message_delta.text = delta.text
    message.message_delta.message_key = delta.message_key


def _reasoning(delta: ReasoningDelta, message: _Result) -> None:
    message.message_delta.reasoning = delta.reasoning
    message.message_delta.message_key = delta.message_key


def _part(delta: PartDelta, message: _Result) -> None:
    message.message_delta.message_key = delta.message_key
    write_part(delta.part, message.message_delta.part)


def _completed_message(completed: MessageCompleted, message: run_result_pb2.MessageCompleted) -> None:
    message.message_key = completed.message_key
    write(completed.message(), message.message)


def _tool_started(started: ToolCallStarted, message: _Result) -> None:
    write(started, message.tool_call_started)


def _tool_completed(completed: ToolCallCompleted, message: _Result) -> None:
    inner = write(completed, message.tool_call_completed)
    if len(inner.result_text) > MAX_RESULT_TEXT:
        inner.result_text = inner.result_text[: MAX_RESULT_TEXT - 1] + "…"


def _artifact(created: ArtifactCreated, message: _Result) -> None:
    if len(created.content) > MAX_INLINE_BYTES:
        raise ResultRefused(
            f"an artifact of {len(created.content):,} bytes is over the {MAX_INLINE_BYTES:,} that go inside a result; "
            "upload it with host.artifacts.create and yield its reference"
        )
    write(created.artifact, message.artifact_created.artifact)
    message.artifact_created.content = created.content


def _state(updated: StateUpdated, message: _Result) -> None:
    inner = message.state_updated
    inner.scope = updated.scope.value
    inner.key = updated.key
    inner.value_json = "" if updated.value is None else json.dumps(updated.value)
    if len(inner.value_json.encode()) > MAX_STATE_BYTES:
        raise ResultRefused(
            f"the value of {updated.key!r} is over {MAX_STATE_BYTES:,} bytes of JSON; keep it in storage (host.storage)"
        )


def _action(requested: ActionRequested, message: _Result) -> None:
    inner = message.action_requested
    inner.request_id = requested.request_id
    if isinstance(requested.request, Interaction):
        write(requested.request, inner.interaction)
    else:
        inner.action.action = requested.request.action
        inner.action.target = requested.request.target
        write_json(requested.request.payload, inner.action.payload)


def _progress(progress: Progress, message: _Result) -> None:
    message.progress.SetInParent()
    write(progress, message.progress)


def _run_completed(completed: RunCompleted, message: _Result) -> None:
    message.run_completed.finish_reason = completed.finish_reason.value
    if completed.message is not None:
        _completed_message(completed.message, message.run_completed.message)
        if completed.usage is None and completed.message.usage is not None:
            write(completed.message.usage, message.usage)


def _run_failed(failed: RunFailed, message: _Result) -> None:
    write(failed.error, message.run_failed.error)


_FILLERS: dict[type, Callable[[Any, _Result], None]] = {
    TextDelta: _text,
    ReasoningDelta: _reasoning,
    PartDelta: _part,
    MessageCompleted: lambda result, message: _completed_message(result, message.message_completed),
    ToolCallStarted: _tool_started,
    ToolCallCompleted: _tool_completed,
    ArtifactCreated: _artifact,
    StateUpdated: _state,
    ActionRequested: _action,
    Progress: _progress,
    RunCompleted: _run_completed,
    RunFailed: _run_failed,
}
