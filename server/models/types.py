"""What a model is asked, what it answers piece by piece, and what it consumed.

Everything that speaks to a model in the host uses these types; no vendor's shape goes beyond its provider.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

# A JSON schema or another JSON object that is the author's own: kept as it came, never interpreted by name.
JsonObject = Mapping[str, object]


class MessageRole(StrEnum):
    """Who speaks in a message to a model."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class TextPart:
    """Plain text or Markdown."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A picture with its bytes; `artifact_id` names the artifact that they were read from, for records."""

    data: bytes = field(repr=False)
    mime_type: str
    artifact_id: str = ""


@dataclass(frozen=True, slots=True)
class ReasoningPart:
    """Reasoning of an earlier answer. Some providers refuse a tool turn without it, so it is sent back unchanged.

    `signature` and `block` are the provider's own (its proof, its name for the block), opaque to everybody else;
    `provider_id` is the provider that may see the part again, the others never do.
    """

    text: str
    signature: str = ""
    block: str = ""
    provider_id: str = ""


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """A call that the model asked for; `arguments_json` is the text that the model wrote, checked by nobody yet.

    `signature` is the proof of the provider `provider_id`, as in `ReasoningPart`.
    """

    call_id: str
    name: str
    arguments_json: str
    signature: str = ""
    provider_id: str = ""


@dataclass(frozen=True, slots=True)
class ToolResultPart:
    """What a call answered. The message that holds it has the role TOOL."""

    call_id: str
    name: str
    text: str
    is_error: bool = False
    images: tuple[ImagePart, ...] = ()


Part = TextPart | ImagePart | ReasoningPart | ToolCallPart | ToolResultPart


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. Roles allow: SYSTEM text; USER text and images; ASSISTANT text, reasoning, calls; TOOL results."""

    role: MessageRole
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A tool that the model may call; the schema describes its arguments as a JSON object."""

    name: str
    description: str
    input_schema: JsonObject


class ToolChoiceMode(StrEnum):
    """Whether the model may, must or must not call tools."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    NAMED = "named"


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`name` is set with NAMED and empty otherwise."""

    mode: ToolChoiceMode = ToolChoiceMode.AUTO
    name: str = ""


class ReasoningEffort(StrEnum):
    """How much a model should think; a provider without levels takes the nearest thing it has."""

    OFF = "off"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks a provider. Calls of one `lane` (a run) wait behind each other and in turn with those of other lanes.

    `patience`: seconds that the caller is willing to wait for its turn.
    """

    lane: str = ""
    patience: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One question. `None` leaves a setting to the provider; `timeout_seconds` bounds the wait for each piece.

    `extra` goes into the body of the provider's request as it is; what the fields here say cannot be overridden by it.
    `caller` tells who asks, for a fair queue.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolDefinition, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    stop: tuple[str, ...] = ()
    reasoning: ReasoningEffort | None = None
    parallel_tool_calls: bool | None = None
    timeout_seconds: float | None = None
    extra: JsonObject = field(default_factory=dict)
    caller: Caller = Caller()

    @property
    def has_images(self) -> bool:
        """Whether a model must see to understand it."""
        parts = [part for message in self.messages for part in message.parts]
        return any(isinstance(part, ImagePart) or (isinstance(part, ToolResultPart) and part.images) for part in parts)


@dataclass(frozen=True, slots=True)
class Cost:
    """Micro-units of the currency, by the price table of that version."""

    micros: int
    currency: str
    price_version: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call; `None` means that the provider did not say. Cached is part of input, reasoning of output."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class FinishReason(StrEnum):
    """Why the answer ended."""

    STOP = "stop"
    TOOL_CALLS = "tool_calls"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of the answer; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More reasoning. `signature` and `block` (see `ReasoningPart`) come alone, at the end of a block that has them."""

    text: str
    signature: str = ""
    block: str = ""


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """A call begins; its arguments follow."""

    call_id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of the arguments' JSON text; never empty."""

    call_id: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class ToolCallCompleted:
    """The call is whole. `arguments_json` is as the model wrote it, perhaps invalid; `{}` where it sent nothing.

    `signature`: see `ToolCallPart`.
    """

    call_id: str
    name: str
    arguments_json: str
    signature: str = ""


@dataclass(frozen=True, slots=True)
class UsageReported:
    """What the call consumed; once, right before the end."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Completed:
    """Always the last event of an answer. `model_id` is the model that answered, as the provider names it."""

    finish_reason: FinishReason
    model_id: str


ModelEvent = (
    TextDelta | ReasoningDelta | ToolCallStarted | ToolCallDelta | ToolCallCompleted | UsageReported | Completed
)


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """A whole answer; `message` can be appended to the conversation as it is."""

    message: Message
    usage: Usage
    finish_reason: FinishReason
    model_id: str


class ModelKind(StrEnum):
    """What a model is for."""

    LLM = "llm"
    EMBEDDING = "embedding"
    RERANK = "rerank"


class Capability(StrEnum):
    """What a language model can do beyond text."""

    TOOLS = "tools"
    IMAGES = "images"
    REASONING = "reasoning"


class ManagedBy(StrEnum):
    """Who keeps a model, a provider or a price. HOST: built in; CONFIG: the configuration file; API: the workspace."""

    HOST = "host"
    CONFIG = "config"
    API = "api"


@dataclass(frozen=True, slots=True)
class Keeping:
    """Who keeps it and since when; revisions and times (microseconds) are of what the API keeps."""

    managed_by: ManagedBy = ManagedBy.CONFIG
    revision: int = 0
    create_time: int = 0
    update_time: int = 0


IN_CONFIG = Keeping()


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    """A provider as operators see it. `concurrency` 0 and `requests_per_minute` 0 mean no limit of this host."""

    provider_id: str
    kind: str
    base_url: str = ""
    has_api_key: bool = False
    concurrency: int = 0
    requests_per_minute: int = 0
    disabled: bool = False
    keeping: Keeping = Keeping()


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that agents may be given. `name` is what its provider calls it; `context_window` is in tokens, `None`
    means unknown."""

    model_id: str
    name: str
    provider_id: str
    provider_kind: str
    kind: ModelKind = ModelKind.LLM
    context_window: int | None = None
    capabilities: frozenset[Capability] = frozenset()
    max_output_tokens: int | None = None
    dimensions: int = 0
    disabled: bool = False
    keeping: Keeping = Keeping()
