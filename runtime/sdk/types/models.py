"""What models are asked and what they answer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from portway.runtime.sdk.types.content import MessageRole, Part, WirePart, text_of, text_part
from portway.runtime.sdk.types.convert import Json, read
from portway.runtime.sdk.types.results import FinishReason, RunError
from portway.runtime.sdk.types.usage import Usage
from portway.v1 import run_model_pb2 as pb


@dataclass(frozen=True, slots=True)
class ModelToolCall:
    """A call that a model asks for. `arguments_json` may be no valid JSON where the model wrote it so.

    `signature` and `provider_id` are the provider's own: they go back unchanged with the message that they came in.
    """

    call_id: str = ""
    tool: str = ""
    arguments_json: str = ""
    signature: str = ""
    provider_id: str = ""


@dataclass(frozen=True, slots=True)
class ModelToolResult:
    """The answer to such a call."""

    call_id: str = ""
    tool: str = ""
    text: str = ""
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class ReasoningBlock:
    """Reasoning as its provider gave it. It goes back unchanged with the message that it came in."""

    text: str = ""
    signature: str = ""
    block: str = ""
    provider_id: str = ""


@dataclass(frozen=True, slots=True)
class ModelMessage:
    """One message of a model's input or output. What a model answered goes back to it unchanged."""

    role: MessageRole = MessageRole.UNSPECIFIED
    parts: tuple[WirePart, ...] = ()
    tool_calls: tuple[ModelToolCall, ...] = ()
    tool_result: ModelToolResult | None = None
    reasoning: str = ""
    reasoning_blocks: tuple[ReasoningBlock, ...] = ()

    @property
    def text(self) -> str:
        return text_of(self.parts)

    @classmethod
    def system(cls, text: str) -> "ModelMessage":
        return cls(MessageRole.SYSTEM, (text_part(text),))

    @classmethod
    def user(cls, text: str, *more: Part) -> "ModelMessage":
        return cls(MessageRole.USER, (text_part(text), *more) if text else more)

    @classmethod
    def assistant(cls, text: str) -> "ModelMessage":
        return cls(MessageRole.ASSISTANT, (text_part(text),))

    @classmethod
    def tool(cls, result: ModelToolResult) -> "ModelMessage":
        return cls(MessageRole.TOOL, tool_result=result)


@dataclass(frozen=True, slots=True)
class ModelTool:
    """A tool offered to a model; `parameters` is a JSON Schema."""

    name: str = ""
    description: str = ""
    parameters: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What a model is asked. The fallbacks are tried in order when a model fails before its first output.

    `tool_choice` is `auto` (or empty), `none`, `required`, or a tool's name; `extra` goes to the provider as it is.
    """

    model_id: str = ""
    messages: tuple[ModelMessage, ...] = ()
    tools: tuple[ModelTool, ...] = ()
    fallback_model_ids: tuple[str, ...] = ()
    temperature: float | None = None
    max_output_tokens: int | None = None
    tool_choice: str = ""
    extra: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelText:
    text: str


@dataclass(frozen=True, slots=True)
class ModelReasoning:
    reasoning: str


@dataclass(frozen=True, slots=True)
class ModelToolCallDelta:
    """A piece of a tool call; `index` is the call's place in the answer, from 0."""

    index: int = 0
    call_id: str = ""
    tool: str = ""
    arguments_delta: str = ""


@dataclass(frozen=True, slots=True)
class ModelFallback:
    """A model was passed over."""

    model_id: str = ""
    error: RunError = field(default_factory=RunError)


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """A whole answer, last in a stream."""

    message: ModelMessage = field(default_factory=ModelMessage)
    finish_reason: FinishReason = FinishReason.UNSPECIFIED
    usage: Usage = field(default_factory=Usage)
    model_id: str = ""
    fallbacks: tuple[ModelFallback, ...] = ()


ModelDelta = ModelText | ModelReasoning | ModelToolCallDelta | ModelFallback
ModelEvent = ModelDelta | ModelAnswer


_READERS: dict[str | None, Callable[[pb.ModelDelta], ModelDelta]] = {
    "text": lambda message: ModelText(message.text),
    "reasoning": lambda message: ModelReasoning(message.reasoning),
    "tool_call": lambda message: read(ModelToolCallDelta, message.tool_call),
    "fallback": lambda message: read(ModelFallback, message.fallback),
}


def read_model_delta(message: pb.ModelDelta) -> ModelDelta | None:
    """None for a kind that this version of the SDK does not know."""
    reader: Any = _READERS.get(message.WhichOneof("kind"))
    delta: ModelDelta | None = reader(message) if reader else None
    return delta


@dataclass(frozen=True, slots=True)
class RerankScore:
    """`index` is the text's place in the request."""

    index: int = 0
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class RerankAnswer:
    scores: tuple[RerankScore, ...] = ()
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class Embedding:
    values: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class EmbedAnswer:
    embeddings: tuple[Embedding, ...] = ()
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class TokenCount:
    """`estimated`: not counted by the model's own tokenizer."""

    input_tokens: int = 0
    estimated: bool = False
