"""What messages are made of: text, media and the rest, and the files behind them."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Annotated, Any

from portway.runtime.sdk.types.convert import Codec, Json, read, write
from portway.runtime.sdk.types.interactions import Interaction, InteractionAnswer
from portway.v1 import content_pb2 as pb


class MessageRole(IntEnum):
    UNSPECIFIED = pb.MESSAGE_ROLE_UNSPECIFIED
    USER = pb.MESSAGE_ROLE_USER
    ASSISTANT = pb.MESSAGE_ROLE_ASSISTANT
    SYSTEM = pb.MESSAGE_ROLE_SYSTEM
    TOOL = pb.MESSAGE_ROLE_TOOL


class SourceKind(IntEnum):
    UNSPECIFIED = pb.SOURCE_KIND_UNSPECIFIED
    USER = pb.SOURCE_KIND_USER
    TOOL = pb.SOURCE_KIND_TOOL
    DOCUMENT = pb.SOURCE_KIND_DOCUMENT
    MODEL = pb.SOURCE_KIND_MODEL
    OPERATOR = pb.SOURCE_KIND_OPERATOR
    HOST = pb.SOURCE_KIND_HOST
    RUNNER = pb.SOURCE_KIND_RUNNER


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a part comes from, said by the host: what a runner writes here is replaced.

    `run_id` made it, `call_id` is the tool's call, `surface` where a person said it.
    """

    kind: SourceKind = SourceKind.UNSPECIFIED
    id: str = ""
    surface: str = ""
    run_id: str = ""
    call_id: str = ""
    masked: bool = False
    edited: bool = False


@dataclass(frozen=True, slots=True)
class ArtifactRef:
    """A file that the host owns. `size` is in bytes, `sha256` in hexadecimal."""

    artifact_id: str = ""
    mime_type: str = ""
    name: str = ""
    size: int = 0
    sha256: str = ""
    summary: str = ""
    expire_time: datetime | None = None
    provenance: Provenance | None = None


@dataclass(frozen=True, slots=True)
class TextPart:
    text: str = ""


@dataclass(frozen=True, slots=True)
class _Media:
    artifact: ArtifactRef = field(default_factory=ArtifactRef)
    caption: str = ""


class ImagePart(_Media):
    """A picture."""

    __slots__ = ()


class AudioPart(_Media):
    """A sound recording."""

    __slots__ = ()


class VideoPart(_Media):
    """A film."""

    __slots__ = ()


class FilePart(_Media):
    """Any other file."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class MentionPart:
    """A participant; `all` for everybody."""

    actor_id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class QuotePart:
    """An earlier message."""

    message_id: str = ""
    text: str = ""
    actor_id: str = ""


@dataclass(frozen=True, slots=True)
class LocationPart:
    """A place, in degrees."""

    latitude: float = 0.0
    longitude: float = 0.0
    name: str = ""


@dataclass(frozen=True, slots=True)
class CardPart:
    """A structured card of a platform."""

    title: str = ""
    fallback_text: str = ""
    data: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QuestionPart:
    """A question to the people of the chat, as it stands in the transcript; `answer` once there is one."""

    run_id: str = ""
    interaction: Interaction = field(default_factory=Interaction)
    approval_id: str = ""
    answer: InteractionAnswer | None = None


@dataclass(frozen=True, slots=True)
class AnswerPart:
    """The answer to a question; `title` is the question's."""

    answer: InteractionAnswer = field(default_factory=InteractionAnswer)
    title: str = ""


MediaPart = ImagePart | AudioPart | VideoPart | FilePart
PartContent = TextPart | MediaPart | MentionPart | QuotePart | LocationPart | CardPart | QuestionPart | AnswerPart

_KINDS: dict[str, type] = {
    "text": TextPart,
    "image": ImagePart,
    "audio": AudioPart,
    "video": VideoPart,
    "file": FilePart,
    "mention": MentionPart,
    "quote": QuotePart,
    "location": LocationPart,
    "card": CardPart,
    "question": QuestionPart,
    "answer": AnswerPart,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a message. `content` is None for a kind that this version of the SDK does not know."""

    content: PartContent | None
    provenance: Provenance | None = None


def read_part(message: pb.ContentPart) -> Part:
    name = message.WhichOneof("kind")
    content: Any = None if name is None else read(_KINDS[name], getattr(message, name))
    return Part(content, read(Provenance, message.provenance) if message.HasField("provenance") else None)


def write_part(part: Part, message: pb.ContentPart) -> None:
    if part.content is not None:
        inner = getattr(message, _NAMES[type(part.content)])
        inner.SetInParent()
        write(part.content, inner)
    if part.provenance is not None:
        write(part.provenance, message.provenance)


WirePart = Annotated[Part, Codec(read_part, write_part)]


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message of a conversation as people see it."""

    role: MessageRole = MessageRole.ASSISTANT
    parts: tuple[WirePart, ...] = ()
    message_id: str = ""

    @property
    def text(self) -> str:
        return text_of(self.parts)


def text_part(text: str) -> Part:
    return Part(TextPart(text))


def text_of(parts: tuple[Part, ...]) -> str:
    """The text of all text parts."""
    return "".join(part.content.text for part in parts if isinstance(part.content, TextPart))
