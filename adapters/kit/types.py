"""What an adapter sees: what it sends in, what it is to send out, and what a run says while it goes on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from portway.adapters.kit.questions import Answer


class SizeUnit(StrEnum):
    """What a platform counts when it limits a message."""

    CHARACTERS = "characters"
    UTF16 = "utf16"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceLimits:
    """What one surface of a platform can do. `max_size` 0: a message may have any length.

    `interactions` are the kinds of questions that it shows (`form`, `confirmation`, `choice`), `platform_actions` the
    names of what it can do besides. `repeats_safely`: the platform itself recognises a message that is sent twice with
    one key, so that nothing has to be written down before each call.
    """

    surface: str
    max_size: int = 0
    size_unit: SizeUnit = SizeUnit.CHARACTERS
    streaming: bool = False
    edit: bool = False
    reaction: bool = False
    typing: bool = False
    markdown: bool = False
    interactions: tuple[str, ...] = ()
    platform_actions: tuple[str, ...] = ()
    repeats_safely: bool = False


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that the host owns. `kind` is `image`, `audio`, `video` or `file`."""

    artifact_id: str
    kind: str
    name: str = ""
    mime_type: str = ""
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """Something that happened on the platform. `key` is the platform's own id of it: the same again is a repetition."""

    key: str
    type: str = "message.received"
    surface: str
    launcher_type: str
    launcher_id: str
    conversation_id: str = ""
    bot_id: str = ""
    channel_id: str = ""
    thread_id: str = ""
    reply_target: str = ""
    actor_id: str = ""
    actor_name: str = ""
    text: str = ""
    attachments: tuple[Attachment, ...] = ()
    addressed: bool = False
    source_event_type: str = ""
    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The host has the event on disk. `run_id` is empty where nothing will answer it."""

    event_id: str
    run_id: str
    conversation_id: str
    message_id: str
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Target:
    """Where a delivery goes."""

    surface: str
    bot_id: str
    channel_id: str
    target: str
    thread_id: str
    conversation_id: str
    launcher_type: str


@dataclass(frozen=True, slots=True)
class OutMessage:
    """A message, or a notice of the host (`kind` is `message` or `notice`)."""

    item_id: str
    kind: str
    text: str
    attachments: tuple[Attachment, ...] = ()
    reply_to: str = ""


@dataclass(frozen=True, slots=True)
class OutEdit:
    """Replaces a message that was sent."""

    provider_message_id: str
    text: str


@dataclass(frozen=True, slots=True)
class OutReaction:
    """Puts a reaction on a message, or takes it away."""

    provider_message_id: str
    reaction: str
    remove: bool


@dataclass(frozen=True, slots=True)
class OutQuestion:
    """A question to the people of the chat; `fallback_text` says it where nothing else is shown."""

    interaction_id: str
    fallback_text: str


@dataclass(frozen=True, slots=True)
class OutAction:
    """Something the platform is to do that is not a message."""

    action: str
    target: str
    payload: Mapping[str, object] = field(default_factory=dict)


Payload = OutMessage | OutEdit | OutReaction | OutQuestion | OutAction


@dataclass(frozen=True, slots=True)
class Outbound:
    """One delivery. Its id is the same however often it comes."""

    delivery_id: str
    run_id: str
    conversation_id: str
    target: Target
    payload: Payload

    @property
    def lane(self) -> str:
        """Deliveries of one lane are sent one after the other."""
        return self.conversation_id or f"{self.target.channel_id}/{self.target.target}/{self.target.thread_id}"


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of a delivery that fits one message of the platform. `key` is stable: for the platform to recognise a
    repetition by."""

    outbound: Outbound
    index: int
    count: int
    text: str
    attachments: tuple[Attachment, ...]

    @property
    def key(self) -> str:
        return f"{self.outbound.delivery_id}/{self.index}"


class OutcomeKind(StrEnum):
    """How an attempt to deliver ended."""

    ACKNOWLEDGED = "acknowledged"
    RETRYABLE = "retryable"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is told to the host about a delivery. `retry_after` is in seconds."""

    delivery_id: str
    kind: OutcomeKind
    provider_message_id: str = ""
    code: str = ""
    message: str = ""
    retry_after: float | None = None


class LinkKind(StrEnum):
    """Whether the host is there."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class LinkState:
    """`detail` says for people why there is no connection."""

    kind: LinkKind
    detail: str = ""
    code: str = ""
