"""Both wire formats against the mock that the vendors' own SDKs are tested with."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from portway.server.models.build import Surroundings, build_registry
from portway.server.models.config import ModelConfig, ModelsConfig, ProviderConfig, ProviderKind
from portway.server.models.errors import ModelAuthFailed, ModelNotFound
from portway.server.models.fallback import ResolvedModel
from portway.server.models.types import (
    Completed,
    FinishReason,
    Message,
    MessageRole,
    ModelEvent,
    ModelKind,
    ModelRequest,
    TextDelta,
    TextPart,
    ToolCallCompleted,
    ToolCallDelta,
    ToolDefinition,
    ToolResultPart,
    UsageReported,
)
from tests.peers.aimock import Aimock, start_aimock

pytestmark = pytest.mark.heavy

EXEC = ToolDefinition(
    "exec",
    "Runs a command in the sandbox.",
    {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
)
NAMES = {ProviderKind.OPENAI: "gpt-4.1-mini", ProviderKind.ANTHROPIC: "claude-haiku-4-5"}
both = pytest.mark.parametrize("kind", list(NAMES))


def said(text: str) -> ModelRequest:
    return ModelRequest((Message(MessageRole.USER, (TextPart(text),)),), (EXEC,), max_output_tokens=1000)


@asynccontextmanager
async def model_at(mock: Aimock, kind: ProviderKind, key: str | None = None) -> AsyncIterator[ResolvedModel]:
    config = ProviderConfig(
        kind, (ModelConfig("m", NAMES[kind]),), base_url=f"{mock.base_url}/v1", api_key=key or mock.api_key
    )
    registry = build_registry(ModelsConfig(default="m", providers={"mock": config}), Surroundings({}))
    try:
        yield registry.resolve("m")
    finally:
        await registry.close()


async def events_of(model: ResolvedModel, request: ModelRequest) -> list[ModelEvent]:
    async with aclosing(model.provider.stream(model.name, request)) as events:
        return [event async for event in events]


@both
async def test_text_is_streamed_in_several_pieces(kind: ProviderKind) -> None:
    async with start_aimock() as mock, model_at(mock, kind) as model:
        events = await events_of(model, said("hello"))
    pieces = [event.text for event in events if isinstance(event, TextDelta)]
    assert len(pieces) > 1
    assert "".join(pieces) == "Hello from the mock model, piece by piece, so that streaming can be seen."
    assert isinstance(events[-2], UsageReported)
    assert isinstance(events[-1], Completed)
    assert events[-1].finish_reason is FinishReason.STOP


@both
async def test_a_tool_call_is_streamed_and_its_result_leads_to_the_answer(kind: ProviderKind) -> None:
    async with start_aimock() as mock, model_at(mock, kind) as model:
        question = said("please use the sandbox")
        events = await events_of(model, question)
        [call] = [event for event in events if isinstance(event, ToolCallCompleted)]
        assert (call.call_id, call.name) == ("call_sandbox", "exec")
        assert json.loads(call.arguments_json) == {"command": "echo hi from the sandbox"}
        assert "".join(e.arguments_json for e in events if isinstance(e, ToolCallDelta)) == call.arguments_json
        assert isinstance(events[-1], Completed)
        assert events[-1].finish_reason is FinishReason.TOOL_CALLS

        asked = await model.provider.invoke(model.name, question)
        result = ToolResultPart("call_sandbox", "exec", "exit code 0\nhi from the sandbox\n")
        turn = (*question.messages, asked.message, Message(MessageRole.TOOL, (result,)))
        answer = await model.provider.invoke(model.name, ModelRequest(turn, (EXEC,), max_output_tokens=1000))
        assert answer.message.text == "The sandbox answered: hi from the sandbox."
        assert len(await mock.requests()) == 3


@both
async def test_a_question_that_it_does_not_know_and_a_wrong_key_are_told_apart(kind: ProviderKind) -> None:
    async with start_aimock() as mock:
        async with model_at(mock, kind, key="another-key") as model:
            with pytest.raises(ModelAuthFailed):
                await events_of(model, said("hello"))
        async with model_at(mock, kind) as model:
            with pytest.raises(ModelNotFound):
                await events_of(model, said("nobody knows this"))


async def test_embeddings_have_their_vectors_and_their_usage() -> None:
    async with start_aimock() as mock:
        vectors = ModelConfig("v", "text-embedding-3-small", ModelKind.EMBEDDING)
        config = ProviderConfig(ProviderKind.OPENAI, (vectors,), base_url=f"{mock.base_url}/v1", api_key=mock.api_key)
        registry = build_registry(ModelsConfig(providers={"mock": config}), Surroundings({}))
        model = registry.resolve("v", ModelKind.EMBEDDING)
        embeddings = await model.provider.embed(model.name, ["one", "two"])
        await registry.close()
    assert [len(vector) for vector in embeddings.vectors] == [1536, 1536]
