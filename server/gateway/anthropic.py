"""`POST /v1/messages`: reading."""

from collections.abc import Iterable, Mapping
from typing import Any

from portway.rpc.errors import PortwayError, Reason
from portway.server.gateway import fields
from portway.server.gateway.anthropic_writer import MessageWriter
from portway.server.gateway.errors import failure_of
from portway.server.gateway.shape import Asked, Refusal
from portway.server.gateway.thoughts import opened
from portway.server.models.types import (
    ImagePart,
    Message,
    MessageRole,
    ModelRequest,
    Part,
    ReasoningEffort,
    TextPart,
    ToolCallPart,
    ToolChoice,
    ToolChoiceMode,
    ToolDefinition,
    ToolResultPart,
)

_CHOICES = {"auto": ToolChoiceMode.AUTO, "any": ToolChoiceMode.REQUIRED, "none": ToolChoiceMode.NONE}
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
# Thinking budgets up to which an effort goes.
_LITTLE, _SOME = 4_096, 16_384


class Messages:
    """The shape."""

    def read(self, body: Mapping[str, Any]) -> Asked:
        choice = fields.an_object(body.get("tool_choice") or {"type": "auto"}, "tool_choice")
        question = ModelRequest(
            messages=(*_system(body.get("system")), *_messages(body)),
            tools=tuple(_tool(one, path) for path, one in fields.objects(body.get("tools"), "tools")),
            tool_choice=_choice(choice),
            temperature=fields.number(body, "temperature", 0, 1),
            top_p=fields.number(body, "top_p", 0, 1),
            max_output_tokens=fields.count(body, "max_tokens"),
            stop=fields.stops(body.get("stop_sequences"), "stop_sequences"),
            reasoning=_effort(body.get("thinking")),
            parallel_tool_calls=False if choice.get("disable_parallel_tool_use") else None,
        )
        return Asked(fields.text(body, "model"), question, bool(fields.flag(body, "stream")))

    def writer(self, asked: Asked) -> MessageWriter:
        return MessageWriter(asked.model, error_body)

    def refusal(self, error: PortwayError) -> Refusal:
        failure = failure_of(error)
        return Refusal(_status(error, failure.status), error_body(error), failure.headers)


def error_body(error: PortwayError) -> Mapping[str, Any]:
    failure = failure_of(error)
    kind = _TYPES.get(_status(error, failure.status), "api_error")
    if error.reason == Reason.BUDGET_EXHAUSTED:
        kind = "billing_error"
    return {"type": "error", "error": {"type": kind, "message": failure.message}}


def _status(error: PortwayError, status: int) -> int:
    return 402 if error.reason == Reason.BUDGET_EXHAUSTED else status


def _tool(tool: Mapping[str, Any], path: str) -> ToolDefinition:
    if tool.get("type") not in (None, "custom"):
        raise fields.of_the_vendor(path, tool["type"])
    schema = fields.an_object(tool.get("input_schema"), f"{path}.input_schema")
    return ToolDefinition(fields.text(tool, "name", path), fields.text(tool, "description", path, ""), schema)


def _choice(choice: Mapping[str, Any]) -> ToolChoice:
    kind = fields.text(choice, "type", "tool_choice")
    if kind == "tool":
        return ToolChoice(ToolChoiceMode.NAMED, fields.text(choice, "name", "tool_choice"))
    if kind not in _CHOICES:
        raise fields.wrong("tool_choice.type", f"must be one of {', '.join((*_CHOICES, 'tool'))}")
    return ToolChoice(_CHOICES[kind])


def _effort(value: object) -> ReasoningEffort | None:
    if value is None:
        return None
    thinking = fields.an_object(value, "thinking")
    kind = fields.text(thinking, "type", "thinking")
    if kind == "disabled":
        return ReasoningEffort.OFF
    if kind == "adaptive":
        return None
    budget = fields.count(thinking, "budget_tokens") or _SOME
    if budget <= _LITTLE:
        return ReasoningEffort.LOW
    return ReasoningEffort.MEDIUM if budget <= _SOME else ReasoningEffort.HIGH


def _system(value: object) -> Iterable[Message]:
    parts = tuple(_parts(value, "system", {})) if value is not None else ()
    if parts:
        yield Message(MessageRole.SYSTEM, parts)


def _messages(body: Mapping[str, Any]) -> tuple[Message, ...]:
    names: dict[str, str] = {}
    found: list[Message] = []
    for path, message in fields.objects(body.get("messages"), "messages"):
        role = fields.text(message, "role", path)
        if role not in ("user", "assistant", "system"):
            raise fields.wrong(f"{path}.role", f"{role!r} is no role; there are user and assistant")
        parts = tuple(_parts(message.get("content"), f"{path}.content", names))
        if role == "assistant":
            found.append(Message(MessageRole.ASSISTANT, parts))
            continue
        # Results of calls come first in a turn of the user; for the host they are turns of their own.
        found += [Message(MessageRole.TOOL, (part,)) for part in parts if isinstance(part, ToolResultPart)]
        rest = tuple(part for part in parts if not isinstance(part, ToolResultPart))
        if rest:
            found.append(Message(MessageRole.SYSTEM if role == "system" else MessageRole.USER, rest))
    if not found:
        raise fields.wrong("messages", "is required")
    return tuple(found)


def _parts(content: object, path: str, names: dict[str, str]) -> Iterable[Part]:
    if isinstance(content, str):
        if content:
            yield TextPart(content)
        return
    for where, block in fields.objects(content, path):
        yield from _block(block, where, names)


def _block(block: Mapping[str, Any], path: str, names: dict[str, str]) -> Iterable[Part]:
    match block.get("type"):
        case "text":
            if said := fields.text(block, "text", path):
                yield TextPart(said)
        case "image":
            yield _image(block, path)
        case "thinking":
            thought = opened(fields.text(block, "thinking", path, ""), fields.text(block, "signature", path, ""))
            if thought is not None:
                yield thought
        case "redacted_thinking":
            thought = opened("", fields.text(block, "data", path))
            if thought is not None:
                yield thought
        case "tool_use":
            call_id, name = fields.text(block, "id", path), fields.text(block, "name", path)
            names[call_id] = name
            arguments = fields.an_object(block.get("input") or {}, f"{path}.input")
            yield ToolCallPart(call_id, name, fields.json_text(arguments))
        case "tool_result":
            yield _result(block, path, names)
        case kind:
            raise fields.wrong(f"{path}.type", f"{kind!r} is nothing that this gateway takes")


def _image(block: Mapping[str, Any], path: str) -> ImagePart:
    source = fields.an_object(block.get("source"), f"{path}.source")
    if source.get("type") != "base64":
        raise fields.wrong(f"{path}.source.type", "must be base64; the gateway fetches no addresses")
    where = f"{path}.source"
    return fields.picture(fields.text(source, "media_type", where), fields.text(source, "data", where), where)


def _result(block: Mapping[str, Any], path: str, names: dict[str, str]) -> ToolResultPart:
    call_id = fields.text(block, "tool_use_id", path)
    given = list(_parts(block.get("content") or "", f"{path}.content", names))
    said = "\n".join(part.text for part in given if isinstance(part, TextPart))
    images = tuple(part for part in given if isinstance(part, ImagePart))
    return ToolResultPart(call_id, names.get(call_id, ""), said, bool(block.get("is_error")), images)
