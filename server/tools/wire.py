"""Tools in the contract's messages."""

from __future__ import annotations

from typing import assert_never

from google.protobuf import json_format, struct_pb2

from portway.server.effects.types import Idempotency
from portway.server.tools.registry import RegisteredTool
from portway.server.tools.types import JsonObject, PartialText, ToolEvent, ToolProgress, ToolResult, ToolSpec, ToolType
from portway.v1 import run_context_pb2, run_pull_pb2, run_result_pb2, tool_pb2

_KINDS = {
    ToolType.NATIVE: tool_pb2.TOOL_KIND_NATIVE,
    ToolType.PLUGIN: tool_pb2.TOOL_KIND_PLUGIN,
    ToolType.MCP: tool_pb2.TOOL_KIND_MCP,
    ToolType.SKILL: tool_pb2.TOOL_KIND_SKILL,
}
_CLASSES = {
    Idempotency.READ_ONLY: tool_pb2.IDEMPOTENCY_CLASS_READ_ONLY,
    Idempotency.IDEMPOTENT: tool_pb2.IDEMPOTENCY_CLASS_IDEMPOTENT,
    # That the host can find out what an earlier call did changes nothing for who calls.
    Idempotency.RECONCILABLE: tool_pb2.IDEMPOTENCY_CLASS_NOT_IDEMPOTENT,
    Idempotency.NOT_IDEMPOTENT: tool_pb2.IDEMPOTENCY_CLASS_NOT_IDEMPOTENT,
}


def resource_to_wire(spec: ToolSpec) -> run_context_pb2.ToolResource:
    """A tool among a run's resources."""
    return run_context_pb2.ToolResource(
        name=spec.name, type=str(spec.type), description=spec.description, parameters=struct_of(spec.input_schema)
    )


def tool_to_wire(tool: RegisteredTool) -> tool_pb2.Tool:
    """A tool for operators."""
    return tool_pb2.Tool(
        name=tool.spec.name,
        kind=_KINDS[tool.spec.type],
        description=tool.spec.description,
        parameters=struct_of(tool.spec.input_schema),
        idempotency=_CLASSES[tool.spec.idempotency],
        available=tool.availability.available,
        reason=tool.availability.reason,
        source=tool.source_id,
    )


def event_to_wire(event: ToolEvent) -> run_pull_pb2.RunnerServiceCallToolResponse:
    """One event of a call."""
    match event:
        case ToolProgress(text, fraction):
            progress = run_result_pb2.Progress(text=text, fraction=fraction)
            return run_pull_pb2.RunnerServiceCallToolResponse(progress=progress)
        case PartialText(text):
            return run_pull_pb2.RunnerServiceCallToolResponse(partial_text=text)
        case ToolResult():
            return run_pull_pb2.RunnerServiceCallToolResponse(result=result_to_wire(event))
        case _:
            assert_never(event)


def result_to_wire(result: ToolResult) -> run_pull_pb2.ToolResult:
    """The result; how long it took is the caller's to say."""
    return run_pull_pb2.ToolResult(
        text=result.text, data=struct_of(result.data), is_error=result.is_error, replayed=result.replayed
    )


def struct_of(data: JsonObject) -> struct_pb2.Struct:
    """A JSON object as the contract carries it."""
    return json_format.ParseDict(dict(data), struct_pb2.Struct())


def dict_of(data: struct_pb2.Struct) -> dict[str, object]:
    """The author's JSON object; whole numbers are whole again."""
    found: dict[str, object] = {}
    for name, value in data.fields.items():
        found[name] = _plain(value)
    return found


def _plain(value: struct_pb2.Value) -> object:
    match value.WhichOneof("kind"):
        case "struct_value":
            return dict_of(value.struct_value)
        case "list_value":
            return [_plain(one) for one in value.list_value.values]
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) < 2**53 else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case _:
            return None
