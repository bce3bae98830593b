"""Model requests and answers between the contract's messages and the host's types."""

from __future__ import annotations

import pytest
from google.protobuf import json_format

from portway.rpc.errors import InvalidInput
from portway.server.models.errors import ModelErrorCode, PassedOver
from portway.server.models.fallback import RoutedEvent
from portway.server.models.types import (
    Completed,
    FinishReason,
    ImagePart,
    Message,
    MessageRole,
    ModelAnswer,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolCallPart,
    ToolCallStarted,
    ToolChoice,
    ToolChoiceMode,
    ToolResultPart,
    Usage,
)
from portway.server.models.wire import DeltaWriter, answer_to_wire, pictures_of, request_from_wire
from portway.v1 import run_model_pb2, run_result_pb2

REQUEST = """
{
  "modelId": "m",
  "messages": [
    {"role": "MESSAGE_ROLE_SYSTEM", "parts": [{"text": {"text": "Be brief."}}]},
    {"role": "MESSAGE_ROLE_USER", "parts": [
      {"text": {"text": "What is this?"}},
      {"image": {"artifact": {"artifactId": "art_1", "mimeType": "image/png"}}}
    ]},
    {"role": "MESSAGE_ROLE_ASSISTANT",
     "reasoningBlocks": [{"text": "hm", "signature": "s", "block": "b", "providerId": "p"}],
     "parts": [{"text": {"text": "Let me see."}}],
     "toolCalls": [{"callId": "c1", "tool": "exec", "argumentsJson": "{}"}]},
    {"role": "MESSAGE_ROLE_TOOL", "toolResult": {"callId": "c1", "tool": "exec", "text": "no", "isError": true}}
  ],
  "tools": [{"name": "exec", "description": "Runs.", "parameters": {"type": "object", "maxProperties": 3}}],
  "temperature": 0.5,
  "maxOutputTokens": "100",
  "toolChoice": "exec",
  "extra": {"seed": 7}
}
"""


def parsed(text: str = REQUEST) -> run_model_pb2.ModelRequest:
    return json_format.Parse(text, run_model_pb2.ModelRequest())


def test_a_request_keeps_everything_in_its_order() -> None:
    assert [one.artifact_id for one in pictures_of(parsed())] == ["art_1"]
    request = request_from_wire(parsed(), {"art_1": b"png"})
    assert request.messages == (
        Message(MessageRole.SYSTEM, (TextPart("Be brief."),)),
        Message(MessageRole.USER, (TextPart("What is this?"), ImagePart(b"png", "image/png", "art_1"))),
        Message(
            MessageRole.ASSISTANT,
            (ReasoningPart("hm", "s", "b", "p"), TextPart("Let me see."), ToolCallPart("c1", "exec", "{}")),
        ),
        Message(MessageRole.TOOL, (ToolResultPart("c1", "exec", "no", is_error=True),)),
    )
    assert request.tools[0].input_schema == {"type": "object", "maxProperties": 3}
    assert (request.temperature, request.max_output_tokens, request.extra) == (0.5, 100, {"seed": 7})
    assert request.tool_choice == ToolChoice(ToolChoiceMode.NAMED, "exec")


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("", ToolChoiceMode.AUTO),
        ("auto", ToolChoiceMode.AUTO),
        ("none", ToolChoiceMode.NONE),
        ("required", ToolChoiceMode.REQUIRED),
    ],
)
def test_the_choice_of_tools_is_read(text: str, mode: ToolChoiceMode) -> None:
    request = parsed()
    request.tool_choice = text
    assert request_from_wire(request, {"art_1": b""}).tool_choice == ToolChoice(mode)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"messages": [{}]}', "request.messages[0].role"),
        ('{"messages": [{"role": "MESSAGE_ROLE_TOOL"}]}', "request.messages[0].tool_result"),
        (
            '{"messages": [{"role": "MESSAGE_ROLE_USER", "parts": [{"audio": {}}]}]}',
            "request.messages[0].parts[0]",
        ),
        (
            '{"messages": [{"role": "MESSAGE_ROLE_USER", "parts": [{"image": {"artifact": {"artifactId": "gone"}}}]}]}',
            "request.messages[0].parts[0].image",
        ),
        ('{"toolChoice": "nothing"}', "request.tool_choice"),
    ],
)
def test_what_a_model_cannot_take_is_named_by_its_path(text: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        request_from_wire(parsed(text), {})
    assert [one.field for one in caught.value.fields] == [field]


def test_events_become_deltas_with_numbered_calls() -> None:
    writer = DeltaWriter()
    events: list[RoutedEvent] = [
        PassedOver("first", ModelErrorCode.TIMEOUT, "too late", True),
        ReasoningDelta("hm"),
        ReasoningDelta("", "signature"),
        TextDelta("a"),
        ToolCallStarted("c1", "exec"),
        ToolCallDelta("c1", "{}"),
        ToolCallStarted("c2", "read"),
        ToolCallDelta("c2", "{"),
        Completed(FinishReason.STOP, "m"),
    ]
    deltas = [delta for event in events if (delta := writer.write(event)) is not None]
    assert [delta.WhichOneof("kind") for delta in deltas] == ["fallback", "reasoning", "text", *["tool_call"] * 4]
    assert (deltas[0].fallback.model_id, deltas[0].fallback.error.code) == ("first", "model.timeout")
    assert [(one.tool_call.index, one.tool_call.tool) for one in deltas[3:]] == [
        (0, "exec"),
        (0, ""),
        (1, "read"),
        (1, ""),
    ]


def test_an_answer_leaves_unknown_usage_unset() -> None:
    parts = (ReasoningPart("hm", "s", "", "p"), TextPart("ok"), ToolCallPart("c1", "exec", "{}"))
    message = Message(MessageRole.ASSISTANT, parts)
    answer = ModelAnswer(message, Usage(input_tokens=3, output_tokens=0), FinishReason.TOOL_CALLS, "vendor-name")
    wire = answer_to_wire(answer, "m", [PassedOver("first", ModelErrorCode.AUTH, "no key", False)])
    assert (wire.message.parts[0].text.text, wire.message.reasoning) == ("ok", "hm")
    assert wire.message.reasoning_blocks[0].signature == "s"
    assert wire.message.tool_calls[0].tool == "exec"
    assert wire.finish_reason == run_result_pb2.FINISH_REASON_STOP
    assert (wire.model_id, wire.usage.model_id) == ("m", "m")
    assert (wire.usage.input_tokens, wire.usage.output_tokens) == (3, 0)
    assert wire.usage.HasField("output_tokens")
    assert not wire.usage.HasField("cached_tokens")
    assert not wire.fallbacks[0].error.retryable
