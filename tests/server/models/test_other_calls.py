"""Reranking, embeddings, pictures and what vendors attach to tool calls."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from portway.server.models.build import Surroundings, build_registry
from portway.server.models.config import ModelConfig, ModelsConfig, ProviderConfig, ProviderKind, ProviderTimeouts
from portway.server.models.errors import (
    ModelAuthFailed,
    ModelBadOutput,
    ModelBadRequest,
    ModelRateLimited,
    ModelTimeout,
)
from portway.server.models.fallback import ResolvedModel, invoke_with_fallback
from portway.server.models.provider import RankedDocument
from portway.server.models.types import (
    Capability,
    ImagePart,
    Message,
    MessageRole,
    ModelKind,
    ModelRequest,
    TextPart,
    ToolCallPart,
    ToolDefinition,
    ToolResultPart,
)
from tests.fakes.model_api import Answer, FakeModelApi, Hold, failure, serve_fake_model_api
from tests.fakes.model_wire import WireAnswer, openai_frames

KEY = "vendor-key-0123456789"
PICTURE = ImagePart(b"\x89PNG\r\n\x1a\n", "image/png")
JSON = {"content-type": "application/json"}


@asynccontextmanager
async def asking(
    model: ModelConfig, kind: ProviderKind = ProviderKind.OPENAI, key: str = KEY, read: float = 10.0
) -> AsyncIterator[tuple[ResolvedModel, FakeModelApi]]:
    async with serve_fake_model_api(KEY) as api:
        config = ProviderConfig(
            kind,
            (model,),
            base_url=f"{api.base_url}/v1",
            api_key=key,
            timeouts=ProviderTimeouts(read=read),
            max_answer_bytes=1_000_000,
        )
        registry = build_registry(ModelsConfig(providers={"main": config}), Surroundings({}))
        try:
            yield registry.resolve(model.id, model.kind), api
        finally:
            await registry.close()


RERANK = ModelConfig("r", "rerank-1", ModelKind.RERANK)
EMBED = ModelConfig("e", "embed-1", ModelKind.EMBEDDING)


@pytest.mark.parametrize("kind", [ProviderKind.COHERE, ProviderKind.JINA, ProviderKind.OPENAI])
@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"usage": {"total_tokens": 17}}, 17),
        ({"usage": {"prompt_tokens": 5, "total_tokens": 6}}, 5),
        ({"meta": {"tokens": {"input_tokens": 9}}}, 9),
        ({"meta": {"billed_units": {"search_units": 1}}}, None),
        ({}, None),
    ],
)
async def test_documents_are_ordered_by_the_vendors_api(
    kind: ProviderKind, usage: dict[str, object], tokens: int | None
) -> None:
    async with asking(RERANK, kind) as (model, api):
        results = [{"index": 2, "relevance_score": 0.25}, {"index": 0, "relevance_score": 0.75}]
        api.will(Answer((json.dumps({"results": results, **usage}).encode(),), headers=JSON))
        found = await model.provider.rerank(model.name, "q", ["a", "b", "c"], 2)
        assert found.documents == (RankedDocument(0, 0.75), RankedDocument(2, 0.25))
        assert found.usage.input_tokens == tokens
        asked = api.requests[0]
        assert asked.path == "/v1/rerank"
        assert asked.body == {"model": "rerank-1", "query": "q", "documents": ["a", "b", "c"], "top_n": 2}
        assert asked.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "wrong",
    [
        b"not json",
        b"[]",
        b"{}",
        b'{"results": []}',
        b'{"results": [{"index": 3, "relevance_score": 1}]}',
        b'{"results": [{"index": -1, "relevance_score": 1}]}',
        b'{"results": [{"index": 0}]}',
        b'{"results": [{"index": 0, "relevance_score": NaN}]}',
        b'{"results": [{"index": 0, "relevance_score": "1"}]}',
        b'{"results": [{"index": 0, "relevance_score": 1}, {"index": 0, "relevance_score": 1}]}',
        b'{"results": [1]}',
        b'"' + b"x" * 2_000_000 + b'"',
    ],
)
async def test_a_wrong_ranking_is_no_ranking(wrong: bytes) -> None:
    async with asking(RERANK) as (model, api):
        api.will(Answer((wrong,), headers=JSON))
        with pytest.raises(ModelBadOutput):
            await model.provider.rerank(model.name, "q", ["a", "b"], 0)


async def test_failures_of_reranking_have_their_names() -> None:
    async with asking(RERANK, key="wrong") as (model, _):
        with pytest.raises(ModelAuthFailed) as refused:
            await model.provider.rerank(model.name, "a secret question", ["d"], 0)
        assert "wrong" not in str(refused.value).split("'")
        assert "secret question" not in str(refused.value)
    async with asking(RERANK) as (model, api):
        api.will(failure(429, {"message": "slow down"}, retry_after="7"))
        with pytest.raises(ModelRateLimited) as limited:
            await model.provider.rerank(model.name, "q", ["d"], 0)
        assert limited.value.retry_after == 7
    async with asking(RERANK, read=0.2) as (model, api):
        api.will(Answer((Hold(api.client_left),), headers=JSON))
        with pytest.raises(ModelTimeout):
            await model.provider.rerank(model.name, "q", ["d"], 0)


def vectors(count: int, tokens: int | None) -> Answer:
    data = [{"object": "embedding", "index": index, "embedding": [float(index), 1.0]} for index in range(count)]
    body: dict[str, object] = {"object": "list", "model": "embed-1", "data": data}
    if tokens is not None:
        body["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Answer((json.dumps(body).encode(),), headers=JSON)


async def test_texts_become_vectors_in_batches_with_the_dimensions_that_are_wanted() -> None:
    async with asking(EMBED, ProviderKind.JINA) as (model, api):
        api.will(vectors(96, 10), vectors(96, 10), vectors(8, 1))
        found = await model.provider.embed(model.name, [f"text {number}" for number in range(200)], dimensions=2)
        assert len(found.vectors) == 200
        assert found.vectors[97] == (1.0, 1.0)
        assert found.usage.input_tokens == 21
        assert [len(one.body["input"]) for one in api.requests] == [96, 96, 8]
        assert {one.body["dimensions"] for one in api.requests} == {2}


async def test_too_few_vectors_are_a_wrong_answer() -> None:
    async with asking(EMBED) as (model, api):
        api.will(vectors(1, 1))
        with pytest.raises(ModelBadOutput):
            await model.provider.embed(model.name, ["a", "b"])


def with_picture() -> ModelRequest:
    return ModelRequest((Message(MessageRole.USER, (TextPart("what is it?"), PICTURE)),))


async def test_a_picture_is_refused_where_the_model_cannot_see_and_goes_to_a_fallback_that_can() -> None:
    seeing = ModelConfig("sees", capabilities=(Capability.IMAGES,))
    async with asking(ModelConfig("blind")) as (blind, _), asking(seeing) as (sees, api):
        with pytest.raises(ModelBadRequest, match="'blind' does not understand pictures"):
            await invoke_with_fallback(blind, [], with_picture())
        api.will(Answer(tuple(openai_frames(WireAnswer(("a cat",))))))
        answer, passed = await invoke_with_fallback(blind, [sees], with_picture())
        assert answer.message.text == "a cat"
        assert [one.model_id for one in passed] == ["blind"]
        assert api.requests[0].body["messages"][0]["content"][1]["type"] == "image_url"


def _chunk(choice: dict[str, object]) -> bytes:
    body = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return f"data: {json.dumps(body)}\n\n".encode()


async def test_what_a_vendor_attaches_to_a_tool_call_goes_back_to_it_alone() -> None:
    signed = {"google": {"thought_signature": "c2lnbmVk"}}
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "exec", "arguments": "{}"}}
    chunks: list[dict[str, object]] = [
        {
            "index": 0,
            "delta": {"role": "assistant", "tool_calls": [{**call, "extra_content": signed}]},
            "finish_reason": None,
        },
        {"index": 0, "delta": {}, "finish_reason": "tool_calls"},
    ]
    frames = [_chunk(chunk) for chunk in chunks]
    tools = (ToolDefinition("exec", "", {"type": "object"}),)
    question = Message(MessageRole.USER, (TextPart("run it"),))
    async with asking(ModelConfig("g"), ProviderKind.GEMINI) as (model, api):
        api.will(Answer((*frames, b"data: [DONE]\n\n")))
        answer = await model.provider.invoke(model.name, ModelRequest((question,), tools))
        part = answer.message.parts[0]
        assert isinstance(part, ToolCallPart)
        assert (json.loads(part.signature), part.provider_id) == ({"extra_content": signed}, "main")
        result = Message(MessageRole.TOOL, (ToolResultPart("c1", "exec", "done"),))
        foreign = ToolCallPart("c1", "exec", "{}", part.signature, "somebody-else")
        for sent, expected in ((answer.message, signed), (Message(MessageRole.ASSISTANT, (foreign,)), None)):
            api.will(Answer(tuple(openai_frames(WireAnswer(("ok",))))))
            await model.provider.invoke(model.name, ModelRequest((question, sent, result), tools))
            assert api.requests[-1].body["messages"][1]["tool_calls"][0].get("extra_content") == expected
