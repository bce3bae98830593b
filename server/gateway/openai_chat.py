"""`POST /v1/chat/completions`."""

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from portway.rpc.errors import PortwayError
from portway.rpc.ids import new_id
from portway.server.gateway import fields, sse
from portway.server.gateway.openai_errors import error_body, refusal_of
from portway.server.gateway.shape import Asked, Refusal
from portway.server.models.types import (
    FinishReason,
    Message,
    MessageRole,
    ModelEvent,
    ModelRequest,
    Part,
    ReasoningDelta,
    ReasoningEffort,
    ReasoningPart,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolCallPart,
    ToolCallStarted,
    ToolChoice,
    ToolChoiceMode,
    ToolDefinition,
    ToolResultPart,
)
from portway.server.runner_calls.asking import Answered
from portway.v1 import usage_pb2

EFFORTS = {
    "none": ReasoningEffort.OFF,
    "minimal": ReasoningEffort.LOW,
    "low": ReasoningEffort.LOW,
    "medium": ReasoningEffort.MEDIUM,
    "high": ReasoningEffort.HIGH,
    "xhigh": ReasoningEffort.HIGH,
}
FINISH = {
    FinishReason.STOP: "stop",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.LENGTH: "length",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.OTHER: "stop",
}
CHOICES = {"auto": ToolChoiceMode.AUTO, "none": ToolChoiceMode.NONE, "required": ToolChoiceMode.REQUIRED}
_MAX_TOKENS = ("max_completion_tokens", "max_tokens")


class ChatCompletions:
    """The shape."""

    def __init__(self) -> None:
        self._usage_wanted = False

    def read(self, body: Mapping[str, Any]) -> Asked:
        if body.get("n") not in (None, 1):
            raise fields.wrong("n", "must be 1: a question has one answer")
        effort = fields.text(body, "reasoning_effort", default="")
        if effort and effort not in EFFORTS:
            raise fields.wrong("reasoning_effort", f"must be one of {', '.join(EFFORTS)}")
        options = fields.an_object(body.get("stream_options") or {}, "stream_options")
        question = ModelRequest(
            messages=_messages(body),
            tools=tuple(_tool(one, path) for path, one in fields.objects(body.get("tools"), "tools")),
            tool_choice=_choice(body.get("tool_choice")),
            temperature=fields.number(body, "temperature", 0, 2),
            top_p=fields.number(body, "top_p", 0, 1),
            max_output_tokens=fields.count(body, *_MAX_TOKENS),
            stop=fields.stops(body.get("stop"), "stop"),
            reasoning=EFFORTS.get(effort),
            parallel_tool_calls=fields.flag(body, "parallel_tool_calls"),
            extra=response_format(body.get("response_format")),
        )
        stream = bool(fields.flag(body, "stream"))
        asked = Asked(fields.text(body, "model"), question, stream)
        self._usage_wanted = bool(options.get("include_usage"))
        return asked

    def writer(self, asked: Asked) -> "_Writer":
        return _Writer(asked.model, self._usage_wanted)

    def refusal(self, error: PortwayError) -> Refusal:
        return refusal_of(error)


def response_format(value: object) -> Mapping[str, Any]:
    """Passed to the provider as it is; plain text is what every answer is anyway."""
    if value is None:
        return {}
    found = fields.an_object(value, "response_format")
    return {} if found.get("type") == "text" else {"response_format": dict(found)}


def _messages(body: Mapping[str, Any]) -> tuple[Message, ...]:
    names: dict[str, str] = {}
    found = tuple(_message(one, path, names) for path, one in fields.objects(body.get("messages"), "messages"))
    if not found:
        raise fields.wrong("messages", "is required")
    return found


def _message(message: Mapping[str, Any], path: str, names: dict[str, str]) -> Message:
    role = fields.text(message, "role", path)
    content = message.get("content")
    match role:
        case "system" | "developer":
            return Message(MessageRole.SYSTEM, tuple(_parts(content, f"{path}.content")))
        case "user":
            return Message(MessageRole.USER, tuple(_parts(content, f"{path}.content")))
        case "assistant":
            parts = list[Part](_parts(content, f"{path}.content"))
            for where, call in fields.objects(message.get("tool_calls"), f"{path}.tool_calls"):
                function = fields.an_object(call.get("function"), f"{where}.function")
                name = fields.text(function, "name", where)
                call_id = fields.text(call, "id", where)
                names[call_id] = name
                parts.append(ToolCallPart(call_id, name, fields.text(function, "arguments", where, "{}") or "{}"))
            return Message(MessageRole.ASSISTANT, tuple(parts))
        case "tool":
            call_id = fields.text(message, "tool_call_id", path)
            given = list(_parts(content, f"{path}.content"))
            said = "".join(part.text for part in given if isinstance(part, TextPart))
            return Message(MessageRole.TOOL, (ToolResultPart(call_id, names.get(call_id, ""), said),))
        case _:
            raise fields.wrong(f"{path}.role", f"{role!r} is no role; there are system, user, assistant and tool")


def _parts(content: object, path: str) -> Iterable[Part]:
    if content is None:
        return
    if isinstance(content, str):
        if content:
            yield TextPart(content)
        return
    for where, part in fields.objects(content, path):
        match part.get("type"):
            case "text":
                yield TextPart(fields.text(part, "text", where))
            case "refusal":
                yield TextPart(fields.text(part, "refusal", where))
            case "image_url":
                url = fields.text(fields.an_object(part.get("image_url"), f"{where}.image_url"), "url", where)
                yield fields.picture_of_url(url, f"{where}.image_url.url")
            case kind:
                raise fields.wrong(f"{where}.type", f"{kind!r} is nothing that this gateway takes")


def _tool(tool: Mapping[str, Any], path: str) -> ToolDefinition:
    if tool.get("type", "function") != "function":
        raise fields.of_the_vendor(path, tool["type"])
    function = fields.an_object(tool.get("function"), f"{path}.function")
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    name = fields.text(function, "name", path)
    return ToolDefinition(
        name, fields.text(function, "description", path, ""), fields.an_object(schema, f"{path}.parameters")
    )


def _choice(value: object) -> ToolChoice:
    if value is None:
        return ToolChoice()
    if isinstance(value, str):
        if value not in CHOICES:
            raise fields.wrong("tool_choice", f"must be one of {', '.join(CHOICES)}, or name a function")
        return ToolChoice(CHOICES[value])
    chosen = fields.an_object(value, "tool_choice")
    function = fields.an_object(chosen.get("function") or chosen, "tool_choice.function")
    return ToolChoice(ToolChoiceMode.NAMED, fields.text(function, "name", "tool_choice"))


def usage_body(usage: usage_pb2.Usage) -> Mapping[str, Any]:
    """What was used; a count that nobody told is 0 here, because the shape has no word for it."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


class _Writer:
    def __init__(self, model: str, usage_wanted: bool) -> None:
        self._model = model
        self._usage_wanted = usage_wanted
        self._id = f"chatcmpl-{new_id('x').removeprefix('x_')}"
        self._created = int(time.time())
        self._calls: dict[str, int] = {}

    def provider(self, provider_id: str) -> None:
        """The shape has no place for a proof of reasoning."""

    def whole(self, answer: Answered) -> Mapping[str, Any]:
        parts = answer.answer.message.parts
        message: dict[str, Any] = {"role": "assistant", "content": answer.answer.message.text or None, "refusal": None}
        thoughts = "\n\n".join(one.text for one in parts if isinstance(one, ReasoningPart) and one.text)
        if thoughts:
            message["reasoning_content"] = thoughts
        calls = [
            {"id": one.call_id, "type": "function", "function": {"name": one.name, "arguments": one.arguments_json}}
            for one in parts
            if isinstance(one, ToolCallPart)
        ]
        if calls:
            message["tool_calls"] = calls
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": FINISH[answer.answer.finish_reason],
        }
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage_body(answer.message.usage)}

    def begin(self) -> Iterable[bytes]:
        yield self._chunk({"role": "assistant", "content": ""})

    def piece(self, event: ModelEvent) -> Iterable[bytes]:
        match event:
            case TextDelta(text):
                yield self._chunk({"content": text})
            case ReasoningDelta(text) if text:
                yield self._chunk({"reasoning_content": text})
            case ToolCallStarted(call_id, name):
                index = self._calls[call_id] = len(self._calls)
                function = {"name": name, "arguments": ""}
                yield self._chunk({"tool_calls": [_call(index, id=call_id, type="function", function=function)]})
            case ToolCallDelta(call_id, arguments):
                function = {"arguments": arguments}
                yield self._chunk({"tool_calls": [_call(self._calls[call_id], function=function)]})
            case _:
                pass

    def end(self, answer: Answered) -> Iterable[bytes]:
        yield self._chunk({}, FINISH[answer.answer.finish_reason])
        if self._usage_wanted:
            usage = usage_body(answer.message.usage)
            yield sse.data({**self._head("chat.completion.chunk"), "choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"

    def broken(self, error: PortwayError) -> Iterable[bytes]:
        yield sse.data(error_body(error))

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    def _chunk(self, delta: Mapping[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return sse.data({**self._head("chat.completion.chunk"), "choices": [choice]})


def _call(index: int, **more: Any) -> Mapping[str, Any]:
    return {"index": index, **more}


def arguments_of(text: str) -> Any:
    """The arguments of a call as JSON; an empty object where a model wrote none, or something else."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
