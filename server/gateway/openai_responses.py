"""`POST /v1/responses`: reading. Nothing is stored: each request carries its whole conversation."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from portway.rpc.errors import PortwayError
from portway.server.gateway import fields
from portway.server.gateway.namespaces import Namespaces
from portway.server.gateway.openai_chat import CHOICES, EFFORTS
from portway.server.gateway.openai_errors import refusal_of
from portway.server.gateway.responses_writer import ResponseWriter
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

_ROLES = {
    "system": MessageRole.SYSTEM,
    "developer": MessageRole.SYSTEM,
    "user": MessageRole.USER,
    "assistant": MessageRole.ASSISTANT,
}
_GROUP = "namespace"
# A tool whose argument is free text; models get it as a function with one text.
_FREE_TEXT = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}


class Responses:
    """The shape."""

    def __init__(self) -> None:
        self._free: frozenset[str] = frozenset()
        self._spaces = Namespaces()

    def read(self, body: Mapping[str, Any]) -> Asked:
        for name in ("previous_response_id", "conversation"):
            if body.get(name):
                raise fields.wrong(name, "is not kept by this gateway; send the whole conversation as input")
        if body.get("background"):
            raise fields.wrong("background", "must be false: an answer ends with its request")
        tools = self._tools(body)
        self._free = frozenset(tool.name for tool in tools if tool.input_schema is _FREE_TEXT)
        instructions = fields.text(body, "instructions", default="")
        system = (Message(MessageRole.SYSTEM, (TextPart(instructions),)),) if instructions else ()
        question = ModelRequest(
            messages=(*system, *_joined(_input(body.get("input"), self._spaces))),
            tools=tuple(tools),
            tool_choice=_choice(body.get("tool_choice"), {tool.name for tool in tools}, self._spaces),
            temperature=fields.number(body, "temperature", 0, 2),
            top_p=fields.number(body, "top_p", 0, 1),
            max_output_tokens=fields.count(body, "max_output_tokens"),
            reasoning=_effort(body.get("reasoning")),
            parallel_tool_calls=fields.flag(body, "parallel_tool_calls"),
        )
        return Asked(fields.text(body, "model"), question, bool(fields.flag(body, "stream")))

    def writer(self, asked: Asked) -> ResponseWriter:
        return ResponseWriter(asked.model, self._free, self._spaces)

    def refusal(self, error: PortwayError) -> Refusal:
        return refusal_of(error)

    def _tools(self, body: Mapping[str, Any]) -> list[ToolDefinition]:
        """All tools, those in groups under names that providers take."""
        single = list(_plain_tools(body.get("tools"), "tools", groups=True))
        grouped = [(group, tool) for group, tools in _groups(body.get("tools")) for tool in tools]
        plain = [tool.name for tool in single]
        self._spaces = Namespaces(((group, tool.name) for group, tool in grouped), plain)
        renamed = [replace(tool, name=self._spaces.flat(group, tool.name)) for group, tool in grouped]
        return single + renamed


def _effort(value: object) -> ReasoningEffort | None:
    effort = fields.text(fields.an_object(value or {}, "reasoning"), "effort", "reasoning", "")
    if effort and effort not in EFFORTS:
        raise fields.wrong("reasoning.effort", f"must be one of {', '.join(EFFORTS)}")
    return EFFORTS.get(effort)


def _groups(value: object) -> Iterable[tuple[str, list[ToolDefinition]]]:
    """Groups by their names. A group holds functions and tools of free text, and no other group."""
    for path, tool in fields.objects(value, "tools"):
        if tool.get("type") == _GROUP:
            yield fields.text(tool, "name", path), list(_plain_tools(tool.get("tools"), f"{path}.tools"))


def _plain_tools(value: object, under: str, *, groups: bool = False) -> Iterable[ToolDefinition]:
    """Functions and tools of free text. `groups`: those may stand beside them, and are left out here."""
    for path, tool in fields.objects(value, under):
        if groups and tool.get("type") == _GROUP:
            continue
        description = fields.text(tool, "description", path, "")
        if tool.get("type") == "function":
            schema = fields.an_object(tool.get("parameters") or {"type": "object", "properties": {}}, path)
            yield ToolDefinition(fields.text(tool, "name", path), description, schema)
        elif tool.get("type") == "custom":
            yield ToolDefinition(fields.text(tool, "name", path), description, _FREE_TEXT)
        else:
            raise fields.of_the_vendor(path, tool.get("type"))


def _choice(value: object, offered: set[str], spaces: Namespaces) -> ToolChoice:
    if value is None:
        return ToolChoice()
    if isinstance(value, str):
        if value not in CHOICES:
            raise fields.wrong("tool_choice", f"must be one of {', '.join(CHOICES)}, or name a function")
        return ToolChoice(CHOICES[value])
    chosen = fields.an_object(value, "tool_choice")
    name = spaces.flat(fields.text(chosen, "namespace", "tool_choice", ""), fields.text(chosen, "name", "tool_choice"))
    if name not in offered:
        raise fields.wrong("tool_choice.name", f"there is no tool {name!r} in this request")
    return ToolChoice(ToolChoiceMode.NAMED, name)


def _input(value: object, spaces: Namespaces) -> Iterable[Message]:
    if isinstance(value, str):
        yield Message(MessageRole.USER, (TextPart(value),))
        return
    names: dict[str, str] = {}
    empty = True
    for path, item in fields.objects(value, "input"):
        empty = False
        yield from _item(item, path, names, spaces)
    if empty:
        raise fields.wrong("input", "is required")


def _item(item: Mapping[str, Any], path: str, names: dict[str, str], spaces: Namespaces) -> Iterable[Message]:
    match item.get("type", "message"):
        case "message":
            role = fields.text(item, "role", path)
            if role not in _ROLES:
                raise fields.wrong(f"{path}.role", f"{role!r} is no role; there are {', '.join(_ROLES)}")
            yield Message(_ROLES[role], tuple(_parts(item.get("content"), f"{path}.content")))
        case "reasoning":
            summary = [fields.text(one, "text", where) for where, one in fields.objects(item.get("summary"), path)]
            thought = opened("\n\n".join(summary), fields.text(item, "encrypted_content", path, ""))
            if thought is not None:
                yield Message(MessageRole.ASSISTANT, (thought,))
        case "function_call" | "custom_tool_call" as kind:
            call_id = fields.text(item, "call_id", path)
            name = spaces.flat(fields.text(item, "namespace", path, ""), fields.text(item, "name", path))
            names[call_id] = name
            if kind == "function_call":
                arguments = fields.text(item, "arguments", path, "{}") or "{}"
            else:
                arguments = fields.json_text({"input": fields.text(item, "input", path, "")})
            yield Message(MessageRole.ASSISTANT, (ToolCallPart(call_id, name, arguments),))
        case "function_call_output" | "custom_tool_call_output":
            call_id = fields.text(item, "call_id", path)
            given = list(_parts(item.get("output"), f"{path}.output"))
            said = "".join(part.text for part in given if isinstance(part, TextPart))
            images = tuple(part for part in given if isinstance(part, ImagePart))
            yield Message(MessageRole.TOOL, (ToolResultPart(call_id, names.get(call_id, ""), said, images=images),))
        case kind:
            raise fields.wrong(f"{path}.type", f"{kind!r} is nothing that this gateway takes")


def _parts(content: object, path: str) -> Iterable[Part]:
    if content is None:
        return
    if isinstance(content, str):
        if content:
            yield TextPart(content)
        return
    for where, part in fields.objects(content, path):
        match part.get("type"):
            case "input_text" | "output_text" | "text":
                yield TextPart(fields.text(part, "text", where))
            case "refusal":
                yield TextPart(fields.text(part, "refusal", where))
            case "input_image":
                yield fields.picture_of_url(fields.text(part, "image_url", where), f"{where}.image_url")
            case kind:
                raise fields.wrong(f"{where}.type", f"{kind!r} is nothing that this gateway takes")


def _joined(messages: Iterable[Message]) -> Iterable[Message]:
    """One turn of the assistant is one message: its reasoning, text and calls came as items of their own."""
    last: Message | None = None
    for message in messages:
        if last is not None and last.role is message.role is MessageRole.ASSISTANT:
            last = Message(MessageRole.ASSISTANT, (*last.parts, *message.parts))
            continue
        if last is not None:
            yield last
        last = message
    if last is not None:
        yield last
