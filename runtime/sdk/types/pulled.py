"""What a run gets when it asks the host: history, events, tools' results, knowledge, storage, prompt, steering."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum

from portway.runtime.sdk.types.content import ArtifactRef, MessageRole, Provenance, WirePart
from portway.runtime.sdk.types.context import Actor, EventContext, RunInput
from portway.runtime.sdk.types.convert import Json
from portway.runtime.sdk.types.results import Progress
from portway.v1 import run_agent_pb2
from portway.v1 import run_pull_pb2 as pb


@dataclass(frozen=True, slots=True)
class TranscriptItem:
    """One message of the conversation. `kind` is `message`, `notice`, `interaction` or `event`."""

    item_id: str = ""
    event_id: str = ""
    conversation_id: str = ""
    thread_id: str = ""
    role: MessageRole = MessageRole.UNSPECIFIED
    kind: str = ""
    content: str = ""
    parts: tuple[WirePart, ...] = ()
    artifacts: tuple[ArtifactRef, ...] = ()
    cursor: str = ""
    create_time: datetime | None = None
    run_id: str = ""
    actor_id: str = ""
    actor_name: str = ""
    edit_time: datetime | None = None
    redacted: bool = False


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A page in order of time. `before_cursor` is where the next older page ends; empty where there is none."""

    items: tuple[TranscriptItem, ...] = ()
    before_cursor: str = ""
    after_cursor: str = ""
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class EventDetail:
    event: EventContext = field(default_factory=EventContext)
    input: RunInput = field(default_factory=RunInput)


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in order of time; `before_cursor` is empty where there are no older ones."""

    events: tuple[EventContext, ...] = ()
    before_cursor: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool returned. `is_error`: the tool says that it failed. `replayed`: recorded by an earlier call."""

    text: str = ""
    data: Json | None = None
    artifacts: tuple[ArtifactRef, ...] = ()
    is_error: bool = False
    duration: timedelta | None = None
    replayed: bool = False
    provenance: Provenance | None = None


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """A piece of a tool's output while it runs; provisional."""

    text: str


# The result comes last, exactly one.
ToolEvent = Progress | ToolOutput | ToolResult


@dataclass(frozen=True, slots=True)
class KnowledgeHit:
    """One found chunk; a higher `score` is better."""

    knowledge_base_id: str = ""
    document_id: str = ""
    chunk_id: str = ""
    text: str = ""
    score: float = 0.0
    metadata: Json = field(default_factory=dict)


class StorageArea(IntEnum):
    UNSPECIFIED = pb.STORAGE_AREA_UNSPECIFIED
    PLUGIN = pb.STORAGE_AREA_PLUGIN
    WORKSPACE = pb.STORAGE_AREA_WORKSPACE
    BINDING = pb.STORAGE_AREA_BINDING


@dataclass(frozen=True, slots=True)
class StorageEntry:
    key: str = ""
    size: int = 0
    update_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class PromptFragment:
    """One piece of the instructions and where it comes from."""

    role: MessageRole = MessageRole.SYSTEM
    text: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class SteeringMessage:
    """A message that arrived while the run was under way."""

    steering_id: str = ""
    event_id: str = ""
    actor: Actor = field(default_factory=Actor)
    input: RunInput = field(default_factory=RunInput)


class ApprovalState(IntEnum):
    UNSPECIFIED = run_agent_pb2.APPROVAL_STATE_UNSPECIFIED
    PENDING = run_agent_pb2.APPROVAL_STATE_PENDING
    APPROVED = run_agent_pb2.APPROVAL_STATE_APPROVED
    DENIED = run_agent_pb2.APPROVAL_STATE_DENIED
    EXPIRED = run_agent_pb2.APPROVAL_STATE_EXPIRED
    STALE = run_agent_pb2.APPROVAL_STATE_STALE


@dataclass(frozen=True, slots=True)
class ActionReceipt:
    """What became of a requested action: the delivery that carries it, or the approval that it waits for."""

    delivery_id: str = ""
    approval_id: str = ""


@dataclass(frozen=True, slots=True)
class WantedApproval:
    """What a runner wants people to allow. `details` show exactly what is to be done and hold no secret; 64 KiB in all.
    `content_digest` stands for the whole where they show it shortened. `request_id` is unique in the run."""

    request_id: str = ""
    subject: str = ""
    title: str = ""
    details: Json = field(default_factory=dict)
    content_digest: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalReceipt:
    """A person allowed it."""

    approval_id: str = ""


@dataclass(frozen=True, slots=True)
class InteractionReceipt:
    """A question was accepted; it can be answered until `expire_time`."""

    delivery_id: str = ""
    expire_time: datetime | None = None
