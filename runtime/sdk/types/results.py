"""What a runner says: `run` yields these. A run ends after exactly one `RunCompleted` or `RunFailed`."""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from typing import Any

from portway.runtime.sdk.types.content import ArtifactRef, Message, MessageRole, Part, WirePart, text_part
from portway.runtime.sdk.types.convert import Json
from portway.runtime.sdk.types.interactions import Interaction, PlatformAction
from portway.runtime.sdk.types.usage import Usage
from portway.v1 import run_result_pb2 as pb


class FinishReason(IntEnum):
    UNSPECIFIED = pb.FINISH_REASON_UNSPECIFIED
    STOP = pb.FINISH_REASON_STOP
    LENGTH = pb.FINISH_REASON_LENGTH
    CONTENT_FILTER = pb.FINISH_REASON_CONTENT_FILTER
    AWAITING_INTERACTION = pb.FINISH_REASON_AWAITING_INTERACTION
    TOOL_LIMIT = pb.FINISH_REASON_TOOL_LIMIT


class StateScope(IntEnum):
    UNSPECIFIED = pb.STATE_SCOPE_UNSPECIFIED
    CONVERSATION = pb.STATE_SCOPE_CONVERSATION
    ACTOR = pb.STATE_SCOPE_ACTOR
    SUBJECT = pb.STATE_SCOPE_SUBJECT
    RUNNER = pb.STATE_SCOPE_RUNNER


@dataclass(frozen=True, slots=True)
class RunError:
    """A failure. `code` is published, such as `model.rate_limited`; `message` says what happened, where, what to do."""

    code: str = ""
    message: str = ""
    retryable: bool = False
    details: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Text to append to the message with this key, which is being written."""

    text: str
    message_key: str = ""


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """Reasoning to append; shown apart from the text or not at all."""

    reasoning: str
    message_key: str = ""


@dataclass(frozen=True, slots=True)
class PartDelta:
    """A whole content part of the message that is being written."""

    part: Part
    message_key: str = ""


@dataclass(frozen=True, slots=True)
class MessageCompleted:
    """A whole message; it replaces the deltas with the same key."""

    parts: tuple[WirePart, ...] = ()
    message_key: str = ""
    usage: Usage | None = None

    @classmethod
    def of_text(cls, text: str, *, message_key: str = "", usage: Usage | None = None) -> "MessageCompleted":
        return cls((text_part(text),), message_key, usage)

    def message(self) -> Message:
        return Message(MessageRole.ASSISTANT, self.parts)


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """The runner calls a tool; `call_id` is unique within the run."""

    call_id: str = ""
    tool: str = ""
    arguments: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolCallCompleted:
    """How a tool call ended. `result_text` is shortened to 16 KiB on the way."""

    call_id: str = ""
    tool: str = ""
    result_text: str = ""
    error: RunError | None = None
    duration: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ArtifactCreated:
    """A file for the next completed message: with its bytes (512 KiB at most), or uploaded before."""

    artifact: ArtifactRef
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class StateUpdated:
    """Sets a state value, or deletes it where `value` is None."""

    scope: StateScope
    key: str
    value: Any = None


@dataclass(frozen=True, slots=True)
class ActionRequested:
    """Asks the host to act, or to put a question to people; `request_id` is unique within the run."""

    request_id: str
    request: PlatformAction | Interaction


@dataclass(frozen=True, slots=True)
class Progress:
    """A short line for whoever watches; `fraction` is 0 to 1, where known."""

    text: str = ""
    fraction: float | None = None


@dataclass(frozen=True, slots=True)
class RunCompleted:
    """The run ended well. `message` is a last one that was not sent as `MessageCompleted` before."""

    finish_reason: FinishReason = FinishReason.STOP
    message: MessageCompleted | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The run failed."""

    error: RunError
    usage: Usage | None = None


RunResult = (
    TextDelta
    | ReasoningDelta
    | PartDelta
    | MessageCompleted
    | ToolCallStarted
    | ToolCallCompleted
    | ArtifactCreated
    | StateUpdated
    | ActionRequested
    | Progress
    | RunCompleted
    | RunFailed
)
