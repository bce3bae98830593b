"""What the vendors are sent, as the endpoint sees it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from portway.server.models.config import ProviderKind
from portway.server.models.types import (
    ImagePart,
    Message,
    MessageRole,
    ModelRequest,
    ReasoningEffort,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolChoice,
    ToolChoiceMode,
    ToolDefinition,
    ToolResultPart,
)
from tests.fakes.model_wire import WireAnswer
from tests.server.models.endpoint import KEY, MODEL, QUESTION, connect

OPENAI, ANTHROPIC = ProviderKind.OPENAI, ProviderKind.ANTHROPIC
both = pytest.mark.parametrize("kind", [OPENAI, ANTHROPIC])

SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {"command": {"type": "string", "minLength": 1}},
    "required": ["command"],
}
EXEC = ToolDefinition("exec", "Runs a command.", SCHEMA)


def user(*parts: TextPart | ImagePart) -> Message:
    return Message(MessageRole.USER, parts)


async def body_of(kind: ProviderKind, request: ModelRequest, **headers: str) -> Any:
    async with connect(kind, headers=headers) as connected:
        connected.will(WireAnswer(text=("ok",)))
        await connected.events(request)
        [recorded] = connected.api.requests
        assert all(recorded.headers[name] == value for name, value in headers.items())
        return recorded.body


@both
async def test_the_key_goes_to_the_endpoint_and_so_do_configured_headers(kind: ProviderKind) -> None:
    async with connect(kind, headers={"x-team": "blue"}) as connected:
        connected.will(WireAnswer(text=("ok",)))
        await connected.events()
        [recorded] = connected.api.requests
        assert recorded.headers["authorization"] == f"Bearer {KEY}"
        assert recorded.headers["x-team"] == "blue"


async def test_keys_of_the_environment_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "from-the-environment")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with connect(OPENAI) as connected:
        connected.will(WireAnswer(text=("ok",)))
        await connected.events()
        assert "from-the-environment" not in str(connected.api.requests[0].headers)


@both
async def test_settings_that_are_not_given_are_left_to_the_provider(kind: ProviderKind) -> None:
    body = await body_of(kind, QUESTION)
    assert body["model"] == MODEL
    assert body["stream"] is True
    assert not {"temperature", "top_p", "tools", "tool_choice", "stop", "thinking"} & set(body)


@both
async def test_settings_that_are_given_arrive(kind: ProviderKind) -> None:
    request = ModelRequest(
        QUESTION.messages,
        (EXEC,),
        ToolChoice(ToolChoiceMode.REQUIRED),
        0.5,
        0.9,
        100,
        ("END",),
        parallel_tool_calls=False,
    )
    body = await body_of(kind, request)
    limit = body["max_completion_tokens"] if kind is OPENAI else body["max_tokens"]
    stop = body["stop"] if kind is OPENAI else body["stop_sequences"]
    assert (body["temperature"], limit, stop) == (0.5, 100, ["END"])
    if kind is OPENAI:
        assert (body["tool_choice"], body["parallel_tool_calls"]) == ("required", False)
    else:
        assert body["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}


@both
async def test_tools_arrive_with_their_schemas_as_they_are(kind: ProviderKind) -> None:
    body = await body_of(kind, ModelRequest(QUESTION.messages, (EXEC,)))
    [tool] = body["tools"]
    described = tool["function"] if kind is OPENAI else tool
    schema = described["parameters"] if kind is OPENAI else described["input_schema"]
    assert (described["name"], described["description"], schema) == ("exec", "Runs a command.", SCHEMA)


@both
async def test_one_tool_can_be_demanded(kind: ProviderKind) -> None:
    other = ToolDefinition("other", "Does nothing.", {"type": "object", "properties": {}})
    request = ModelRequest(QUESTION.messages, (EXEC, other), ToolChoice(ToolChoiceMode.NAMED, "exec"))
    choice = (await body_of(kind, request))["tool_choice"]
    assert choice == (
        {"type": "function", "function": {"name": "exec"}} if kind is OPENAI else {"type": "tool", "name": "exec"}
    )


@both
async def test_instructions_pictures_and_languages_arrive(kind: ProviderKind) -> None:
    system = Message(MessageRole.SYSTEM, (TextPart("Antworte höflich."),))
    body = await body_of(kind, ModelRequest((system, user(TextPart("这是什么?"), ImagePart(b"\x89PNG", "image/png")))))
    if kind is OPENAI:
        assert body["messages"][0] == {"role": "system", "content": "Antworte höflich."}
        text, picture = body["messages"][1]["content"]
        assert picture["image_url"]["url"] == "data:image/png;base64,iVBORw=="
    else:
        assert "Antworte höflich." in str(body["system"])
        text, picture = body["messages"][0]["content"]
        assert picture["source"] == {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}
    assert text["text"] == "这是什么?"


def tool_turn(*more: Message) -> ModelRequest:
    calls = (ToolCallPart("c1", "exec", '{"command": "ls"}'), ToolCallPart("c2", "exec", '{"command": "pwd"}'))
    return ModelRequest(
        (
            *QUESTION.messages,
            Message(MessageRole.ASSISTANT, (TextPart("Let me see."), *calls)),
            Message(MessageRole.TOOL, (ToolResultPart("c1", "exec", "exit code 0\na"),)),
            Message(MessageRole.TOOL, (ToolResultPart("c2", "exec", "no such thing", is_error=True),)),
            *more,
        ),
        (EXEC,),
    )


async def test_results_of_one_turn_follow_their_calls_in_the_openai_format() -> None:
    messages = (await body_of(OPENAI, tool_turn()))["messages"]
    assert [one["role"] for one in messages] == ["user", "assistant", "tool", "tool"]
    arguments = [json.loads(call["function"]["arguments"]) for call in messages[1]["tool_calls"]]
    assert arguments == [{"command": "ls"}, {"command": "pwd"}]
    assert (messages[2]["tool_call_id"], messages[2]["content"]) == ("c1", "exit code 0\na")
    assert "no such thing" in messages[3]["content"]


async def test_results_of_one_turn_share_one_message_in_the_anthropic_format() -> None:
    messages = (await body_of(ANTHROPIC, tool_turn(user(TextPart("and now?")))))["messages"]
    assert [one["role"] for one in messages] == ["user", "assistant", "user"]
    assert [block["type"] for block in messages[1]["content"]] == ["text", "tool_use", "tool_use"]
    first, second, text = messages[2]["content"]
    assert (first["tool_use_id"], second["tool_use_id"], text["text"]) == ("c1", "c2", "and now?")
    assert (bool(first.get("is_error")), second["is_error"]) == (False, True)


@both
async def test_arguments_that_are_not_valid_json_do_not_stop_the_conversation(kind: ProviderKind) -> None:
    request = ModelRequest(
        (
            *QUESTION.messages,
            Message(MessageRole.ASSISTANT, (ToolCallPart("c1", "exec", '{"command": '),)),
            Message(MessageRole.TOOL, (ToolResultPart("c1", "exec", "not valid JSON", is_error=True),)),
        )
    )
    messages = (await body_of(kind, request))["messages"]
    assert '{\\"command\\": ' in str(messages[1]).replace("\\\\", "\\") or '{"command": ' in str(messages[1])


async def test_signed_reasoning_goes_back_to_the_provider_that_signed_it_and_to_no_other() -> None:
    def turn(owner: str) -> ModelRequest:
        said = (ReasoningPart("hm", "c2lnbmVk", provider_id=owner), ToolCallPart("c1", "exec", "{}"))
        result = ToolResultPart("c1", "exec", "exit code 0")
        return ModelRequest(
            (*QUESTION.messages, Message(MessageRole.ASSISTANT, said), Message(MessageRole.TOOL, (result,))), (EXEC,)
        )

    own = (await body_of(ANTHROPIC, turn("main")))["messages"][1]["content"]
    assert own[0] == {"type": "thinking", "thinking": "hm", "signature": "c2lnbmVk"}
    other = (await body_of(ANTHROPIC, turn("elsewhere")))["messages"][1]["content"]
    assert [block["type"] for block in other] == ["tool_use"]


async def test_reasoning_effort_is_passed_on() -> None:
    body = await body_of(
        ANTHROPIC, ModelRequest(QUESTION.messages, max_output_tokens=4000, reasoning=ReasoningEffort.HIGH)
    )
    assert "thinking" in body or "effort" in str(body)


@both
async def test_extra_settings_go_into_the_body_but_replace_nothing(kind: ProviderKind) -> None:
    body = await body_of(kind, ModelRequest(QUESTION.messages, extra={"seed": 7, "model": "another", "stream": False}))
    assert (body["seed"], body["model"], body["stream"]) == (7, MODEL, True)
