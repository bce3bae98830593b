"""Model requests and answers between the contract's messages and the host's types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import assert_never

from google.protobuf import json_format

from portway.rpc.errors import InvalidInput
from portway.server.models.errors import PassedOver
from portway.server.models.fallback import RoutedEvent
from portway.server.models.types import (
    Completed,
    Cost,
    FinishReason,
    ImagePart,
    Message,
    MessageRole,
    ModelAnswer,
    ModelRequest,
    Part,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    TextPart,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallPart,
    ToolCallStarted,
    ToolChoice,
    ToolChoiceMode,
    ToolDefinition,
    ToolResultPart,
    Usage,
    UsageReported,
)
from portway.v1 import content_pb2, run_model_pb2, run_result_pb2, usage_pb2

_ROLES = {
    content_pb2.MESSAGE_ROLE_SYSTEM: MessageRole.SYSTEM,
    content_pb2.MESSAGE_ROLE_USER: MessageRole.USER,
    content_pb2.MESSAGE_ROLE_ASSISTANT: MessageRole.ASSISTANT,
    content_pb2.MESSAGE_ROLE_TOOL: MessageRole.TOOL,
}
_CHOICES = {
    "": ToolChoiceMode.AUTO,
    "auto": ToolChoiceMode.AUTO,
    "none": ToolChoiceMode.NONE,
    "required": ToolChoiceMode.REQUIRED,
}
# That the model calls tools is told by the calls themselves.
_FINISH = {
    FinishReason.STOP: run_result_pb2.FINISH_REASON_STOP,
    FinishReason.TOOL_CALLS: run_result_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: run_result_pb2.FINISH_REASON_LENGTH,
    FinishReason.CONTENT_FILTER: run_result_pb2.FINISH_REASON_CONTENT_FILTER,
    FinishReason.OTHER: run_result_pb2.FINISH_REASON_UNSPECIFIED,
}


def pictures_of(request: run_model_pb2.ModelRequest) -> Iterator[content_pb2.ArtifactRef]:
    """The artifacts whose bytes `request_from_wire` needs."""
    for message in request.messages:
        for part in message.parts:
            if part.WhichOneof("kind") == "image":
                yield part.image.artifact


def request_from_wire(request: run_model_pb2.ModelRequest, pictures: Mapping[str, bytes]) -> ModelRequest:
    """The request for a provider. Errors: `InvalidInput` with the path of what a model cannot take."""
    messages = tuple(
        _message_from_wire(message, f"request.messages[{index}]", pictures)
        for index, message in enumerate(request.messages)
    )
    tools = tuple(
        ToolDefinition(tool.name, tool.description, json_format.MessageToDict(tool.parameters))
        for tool in request.tools
    )
    mode = _CHOICES.get(request.tool_choice, ToolChoiceMode.NAMED)
    name = request.tool_choice if mode is ToolChoiceMode.NAMED else ""
    if name and name not in {tool.name for tool in tools}:
        raise InvalidInput.field("request.tool_choice", f"there is no tool {name!r} in this request")
    return ModelRequest(
        messages,
        tools,
        ToolChoice(mode, name),
        temperature=request.temperature if request.HasField("temperature") else None,
        max_output_tokens=request.max_output_tokens if request.HasField("max_output_tokens") else None,
        extra=json_format.MessageToDict(request.extra),
    )


def _message_from_wire(message: run_model_pb2.ModelMessage, path: str, pictures: Mapping[str, bytes]) -> Message:
    role = _ROLES.get(message.role)
    if role is None:
        raise InvalidInput.field(f"{path}.role", "it must say who speaks: system, user, assistant or tool")
    parts: list[Part] = []
    if role is MessageRole.ASSISTANT:
        parts += [
            ReasoningPart(one.text, one.signature, one.block, one.provider_id) for one in message.reasoning_blocks
        ]
    parts += [_part_from_wire(part, f"{path}.parts[{index}]", pictures) for index, part in enumerate(message.parts)]
    if role is MessageRole.ASSISTANT:
        parts += [
            ToolCallPart(call.call_id, call.tool, call.arguments_json, call.signature, call.provider_id)
            for call in message.tool_calls
        ]
    if role is MessageRole.TOOL:
        if not message.HasField("tool_result"):
            raise InvalidInput.field(f"{path}.tool_result", "a message of the role tool holds a result")
        result = message.tool_result
        images = tuple(part for part in parts if isinstance(part, ImagePart))
        parts = [ToolResultPart(result.call_id, result.tool, result.text, result.is_error, images)]
    return Message(role, tuple(parts))


def _part_from_wire(part: content_pb2.ContentPart, path: str, pictures: Mapping[str, bytes]) -> Part:
    match part.WhichOneof("kind"):
        case "text":
            return TextPart(part.text.text)
        case "image":
            artifact = part.image.artifact
            data = pictures.get(artifact.artifact_id)
            if data is None:
                raise InvalidInput.field(f"{path}.image", f"the artifact {artifact.artifact_id!r} cannot be read")
            return ImagePart(data, artifact.mime_type, artifact.artifact_id)
        case kind:
            raise InvalidInput.field(path, f"a model takes text and images; write {kind or 'this part'} as text")


class DeltaWriter:
    """Writes the events of one answer as deltas; it numbers the calls, which share the order of the answer."""

    def __init__(self) -> None:
        self._indexes: dict[str, int] = {}

    def write(self, event: RoutedEvent) -> run_model_pb2.ModelDelta | None:
        """The delta; `None` for events that only the whole answer holds."""
        match event:
            case TextDelta(text):
                return run_model_pb2.ModelDelta(text=text)
            case ReasoningDelta(text):
                return run_model_pb2.ModelDelta(reasoning=text) if text else None
            case ToolCallStarted(call_id, name):
                self._indexes[call_id] = len(self._indexes)
                return self._call(call_id, run_model_pb2.ModelToolCallDelta(call_id=call_id, tool=name))
            case ToolCallDelta(call_id, arguments):
                return self._call(call_id, run_model_pb2.ModelToolCallDelta(arguments_delta=arguments))
            case PassedOver():
                return run_model_pb2.ModelDelta(fallback=_fallback_to_wire(event))
            case ToolCallCompleted() | UsageReported() | Completed():
                return None
            case _:
                assert_never(event)

    def _call(self, call_id: str, delta: run_model_pb2.ModelToolCallDelta) -> run_model_pb2.ModelDelta:
        delta.index = self._indexes[call_id]
        return run_model_pb2.ModelDelta(tool_call=delta)


def answer_to_wire(
    answer: ModelAnswer, model_id: str, passed_over: Sequence[PassedOver] = (), cost: Cost | None = None
) -> run_model_pb2.ModelAnswer:
    """The whole answer; `model_id` is the host's id of the model that gave it."""
    return run_model_pb2.ModelAnswer(
        message=_message_to_wire(answer.message),
        finish_reason=_FINISH[answer.finish_reason],
        usage=usage_to_wire(answer.usage, model_id, cost),
        model_id=model_id,
        fallbacks=[_fallback_to_wire(one) for one in passed_over],
    )


def _message_to_wire(message: Message) -> run_model_pb2.ModelMessage:
    reasoning = [part for part in message.parts if isinstance(part, ReasoningPart)]
    return run_model_pb2.ModelMessage(
        role=content_pb2.MESSAGE_ROLE_ASSISTANT,
        parts=[content_pb2.ContentPart(text=content_pb2.TextPart(text=message.text))] if message.text else [],
        tool_calls=[
            run_model_pb2.ModelToolCall(
                call_id=part.call_id,
                tool=part.name,
                arguments_json=part.arguments_json,
                signature=part.signature,
                provider_id=part.provider_id,
            )
            for part in message.parts
            if isinstance(part, ToolCallPart)
        ],
        reasoning="\n\n".join(part.text for part in reasoning if part.text),
        reasoning_blocks=[
            run_model_pb2.ModelReasoning(
                text=part.text, signature=part.signature, block=part.block, provider_id=part.provider_id
            )
            for part in reasoning
        ],
    )


def usage_to_wire(usage: Usage, model_id: str, cost: Cost | None = None) -> usage_pb2.Usage:
    """What was used and what it cost; what is unknown stays unset."""
    return usage_pb2.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        model_id=model_id,
        cost_micros=cost.micros if cost else None,
        currency=cost.currency if cost else "",
        price_version=cost.price_version if cost else "",
    )


def _fallback_to_wire(passed: PassedOver) -> run_model_pb2.ModelFallback:
    error = run_result_pb2.RunError(code=str(passed.code), message=passed.message, retryable=passed.retryable)
    return run_model_pb2.ModelFallback(model_id=passed.model_id, error=error)
