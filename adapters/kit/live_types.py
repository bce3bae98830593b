"""What a run says while it goes on."""

from dataclasses import dataclass
from enum import StrEnum

from portway.adapters.kit.types import Attachment


class ChunkKind(StrEnum):
    """Text of the answer, or the reasoning before it."""

    TEXT = "text"
    REASONING = "reasoning"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Text to append. `offset` counts the code points of this kind that the message had before, in this attempt."""

    key: str
    kind: ChunkKind
    offset: int
    text: str


@dataclass(frozen=True, slots=True)
class MessageDone:
    """A whole message; it replaces the chunks of its key. `item_id` is its place in the transcript."""

    key: str
    item_id: str
    text: str
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolBegun:
    """`arguments` is JSON text."""

    call_id: str
    tool: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolEnded:
    """`error` is empty when the call went well. `seconds` is how long it took."""

    call_id: str
    tool: str
    output: str
    error: str
    seconds: float


@dataclass(frozen=True, slots=True)
class FileMade:
    """A file that will belong to the next message."""

    attachment: Attachment


@dataclass(frozen=True, slots=True)
class ProgressLine:
    """A line for whoever watches."""

    text: str


@dataclass(frozen=True, slots=True)
class StateNews:
    """The run is `queued`, `running`, `waiting` or `cancelling`."""

    state: str


@dataclass(frozen=True, slots=True)
class AttemptReset:
    """What was provisional is void: another attempt begins."""

    attempt: int


@dataclass(frozen=True, slots=True)
class NoticeTold:
    """What people are told in place of an answer."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The last thing that a run says. `state` is `completed`, `failed` or `cancelled`."""

    state: str
    code: str = ""
    message: str = ""
    last: MessageDone | None = None


Change = (
    Chunk
    | MessageDone
    | ToolBegun
    | ToolEnded
    | FileMade
    | ProgressLine
    | StateNews
    | AttemptReset
    | NoticeTold
    | RunEnded
)


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """One event of a run. `sequence` 0: provisional. `change` is None for what has nothing to show."""

    sequence: int
    attempt: int
    change: Change | None


@dataclass(frozen=True, slots=True)
class LiveUpdate:
    """Events of one run, in order. `error` says why the host shows no more of it: a published reason."""

    run_id: str
    conversation_id: str
    events: tuple[LiveEvent, ...]
    error: str = ""
