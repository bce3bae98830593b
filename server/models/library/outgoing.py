"""From a model request to the library's messages, settings and tools."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Literal, assert_never

from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    ThinkingPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)
from pydantic_ai.messages import ModelRequest as LibraryRequest
from pydantic_ai.messages import ModelRequestPart as LibraryRequestPart
from pydantic_ai.messages import TextPart as LibraryTextPart
from pydantic_ai.messages import ToolCallPart as LibraryToolCallPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition as LibraryTool

from portway.server.models.config import ProviderTimeouts
from portway.server.models.types import (
    ImagePart,
    Message,
    MessageRole,
    ModelRequest,
    Part,
    ReasoningEffort,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolChoice,
    ToolChoiceMode,
    ToolResultPart,
)

# Fields of both wire formats that the request itself decides.
_OWN_FIELDS = frozenset(
    "model messages system stream stream_options tools tool_choice temperature max_tokens max_completion_tokens".split()
)


def messages_of(request: ModelRequest, provider_id: str, system: str) -> list[ModelMessage]:
    """The conversation; `system` is the library's name of this provider, by which it knows its own reasoning again.

    What comes between two messages of the assistant becomes one request: the vendors want all results of one turn
    of calls together.
    """
    turns: list[ModelMessage] = []
    for message in request.messages:
        if message.role is MessageRole.ASSISTANT:
            parts = [part for given in message.parts for part in _response_parts(given, provider_id, system)]
            turns.append(ModelResponse(parts=parts, provider_name=system))
            continue
        last = turns[-1] if turns else None
        if isinstance(last, LibraryRequest):
            last.parts = [*last.parts, *_request_parts(message)]
        else:
            turns.append(LibraryRequest(parts=list(_request_parts(message))))
    return turns


def _request_parts(message: Message) -> Iterator[LibraryRequestPart]:
    if message.role is MessageRole.SYSTEM:
        yield SystemPromptPart(content=message.text)
        return
    for part in message.parts:
        if isinstance(part, ToolResultPart):
            yield _tool_return(part)
    content = list(_user_content(message.parts))
    if content:
        yield UserPromptPart(content=content)


def _tool_return(part: ToolResultPart) -> ToolReturnPart:
    content = [part.text, *(BinaryContent(data=one.data, media_type=one.mime_type) for one in part.images)]
    return ToolReturnPart(
        tool_name=part.name,
        content=content if part.images else part.text,
        tool_call_id=part.call_id,
        outcome="failed" if part.is_error else "success",
    )


def _user_content(parts: Sequence[Part]) -> Iterator[UserContent]:
    for part in parts:
        if isinstance(part, TextPart):
            yield part.text
        elif isinstance(part, ImagePart):
            yield BinaryContent(data=part.data, media_type=part.mime_type)


def _response_parts(part: Part, provider_id: str, system: str) -> Iterator[ModelResponsePart]:
    match part:
        case TextPart(text):
            yield LibraryTextPart(content=text)
        case ToolCallPart(call_id, name, arguments, signature, owner):
            details = _details(signature) if owner == provider_id else None
            yield LibraryToolCallPart(
                tool_name=name,
                args=arguments,
                tool_call_id=call_id,
                provider_name=system if details else None,
                provider_details=details,
            )
        case ReasoningPart(text, signature, block, owner):
            # Reasoning that its own provider cannot recognise would be shown to the model as if it were said.
            if owner == provider_id and (signature or block):
                yield ThinkingPart(content=text, id=block or None, signature=signature or None, provider_name=system)
        case ImagePart() | ToolResultPart():
            pass  # Not a thing that an assistant says.
        case _:
            assert_never(part)


def _details(signature: str) -> dict[str, object] | None:
    """What the library kept of a call; a runner may have sent anything back."""
    try:
        details = json.loads(signature) if signature else None
    except ValueError:
        return None
    return details if isinstance(details, dict) else None


def settings_of(request: ModelRequest, timeouts: ProviderTimeouts) -> ModelSettings:
    """What the caller set, and nothing else: the provider's defaults stay the provider's."""
    settings = ModelSettings(timeout=request.timeout_seconds or timeouts.read)
    if request.temperature is not None:
        settings["temperature"] = request.temperature
    if request.top_p is not None:
        settings["top_p"] = request.top_p
    if request.max_output_tokens is not None:
        settings["max_tokens"] = request.max_output_tokens
    if request.stop:
        settings["stop_sequences"] = list(request.stop)
    if request.parallel_tool_calls is not None:
        settings["parallel_tool_calls"] = request.parallel_tool_calls
    if request.tools:
        settings["tool_choice"] = _tool_choice(request.tool_choice)
    if request.reasoning is not None:
        settings["thinking"] = _thinking(request.reasoning)
    if request.extra:
        settings["extra_body"] = {name: value for name, value in request.extra.items() if name not in _OWN_FIELDS}
    return settings


def _tool_choice(choice: ToolChoice) -> Literal["auto", "none", "required"] | list[str]:
    match choice.mode:
        case ToolChoiceMode.AUTO:
            return "auto"
        case ToolChoiceMode.NONE:
            return "none"
        case ToolChoiceMode.REQUIRED:
            return "required"
        case ToolChoiceMode.NAMED:
            return [choice.name]
        case _:
            assert_never(choice.mode)


def _thinking(effort: ReasoningEffort) -> Literal["low", "medium", "high", False]:
    match effort:
        case ReasoningEffort.OFF:
            return False
        case ReasoningEffort.LOW:
            return "low"
        case ReasoningEffort.MEDIUM:
            return "medium"
        case ReasoningEffort.HIGH:
            return "high"
        case _:
            assert_never(effort)


def parameters_of(request: ModelRequest) -> ModelRequestParameters:
    """The tools, with their schemas as they are."""
    tools = [
        LibraryTool(
            name=tool.name,
            description=tool.description,
            parameters_json_schema=dict(tool.input_schema),
            # Strict mode would rewrite the schema; the arguments are checked by whoever runs the tool.
            strict=False,
        )
        for tool in request.tools
    ]
    return ModelRequestParameters(function_tools=tools)
