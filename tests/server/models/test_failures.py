"""What providers make of failures, over the wire and in both formats."""

from __future__ import annotations

import asyncio
import traceback

import pytest

from portway.rpc.errors import (
    DeadlineExceeded,
    InvalidInput,
    NotAvailable,
    NotFound,
    RateLimited,
    Unavailable,
    WrongState,
)
from portway.server.models.build import Surroundings, build_registry
from portway.server.models.config import ModelConfig, ModelsConfig, ProviderConfig, ProviderKind, ProviderTimeouts
from portway.server.models.errors import (
    ModelAuthFailed,
    ModelBadOutput,
    ModelBadRequest,
    ModelContextLength,
    ModelError,
    ModelErrorCode,
    ModelNotFound,
    ModelRateLimited,
    ModelTimeout,
    ModelUnavailable,
)
from portway.server.models.types import TextDelta
from tests.fakes.model_api import Answer, Break, Hold
from tests.fakes.model_wire import WireAnswer
from tests.server.models.endpoint import MODEL, QUESTION, Connected, connect

OPENAI, ANTHROPIC = ProviderKind.OPENAI, ProviderKind.ANTHROPIC
both = pytest.mark.parametrize("kind", [OPENAI, ANTHROPIC])


async def failing(connected: Connected) -> ModelError:
    """The failure of one streamed answer, which was asked for once: nothing is retried here."""
    before = len(connected.api.requests)
    with pytest.raises(ModelError) as caught:
        await connected.events()
    assert len(connected.api.requests) == before + 1
    assert (caught.value.provider_id, caught.value.model_id) == ("main", MODEL)
    assert "main" in caught.value.message
    return caught.value


@both
async def test_a_wrong_key_is_named_and_never_repeated(kind: ProviderKind) -> None:
    async with connect(kind, key="wrong-key-9876543210") as connected:
        failure = await failing(connected)
    assert isinstance(failure, ModelAuthFailed)
    assert isinstance(failure, WrongState)
    assert (failure.code, failure.retryable) == (ModelErrorCode.AUTH, False)
    assert "models.providers.main.api_key" in failure.message
    shown = "".join(traceback.format_exception(failure)) + repr(failure) + str(failure.facts)
    assert "wrong-key-9876543210" not in shown
    assert failure.__cause__ is None
    assert failure.__context__ is None


@both
async def test_a_key_in_another_answer_is_blotted_out(kind: ProviderKind) -> None:
    async with connect(kind) as connected:
        connected.will_fail(400, "invalid_request_error", "bad field for test-key-0123456789 and sk-abcdef123456")
        failure = await failing(connected)
    assert isinstance(failure, ModelBadRequest)
    assert "bad field for [secret] and [secret]" in failure.message


@both
async def test_a_rate_limit_says_when_to_try_again(kind: ProviderKind) -> None:
    async with connect(kind) as connected:
        connected.will_fail(429, "rate_limit_error", "slow down", retry_after="7")
        failure = await failing(connected)
    assert isinstance(failure, ModelRateLimited)
    assert isinstance(failure, RateLimited)
    assert (failure.code, failure.retryable, failure.retry_after) == (ModelErrorCode.RATE_LIMITED, True, 7.0)
    assert "slow down" in failure.message


async def test_a_used_up_quota_is_not_worth_a_retry() -> None:
    async with connect(OPENAI) as connected:
        connected.will_fail(429, "insufficient_quota", "You exceeded your current quota", code="insufficient_quota")
        failure = await failing(connected)
    assert (failure.code, failure.retryable) == (ModelErrorCode.RATE_LIMITED, False)
    assert "quota" in failure.message


@both
@pytest.mark.parametrize("status", [500, 502, 503, 529])
async def test_a_failing_provider_is_unavailable(kind: ProviderKind, status: int) -> None:
    async with connect(kind) as connected:
        connected.will_fail(status, "server_error", "boom")
        failure = await failing(connected)
    assert isinstance(failure, ModelUnavailable)
    assert isinstance(failure, Unavailable)
    assert (failure.code, failure.retryable) == (ModelErrorCode.UNAVAILABLE, True)
    assert f"HTTP {status}" in failure.message


@both
async def test_an_unknown_model_is_not_found(kind: ProviderKind) -> None:
    async with connect(kind) as connected:
        connected.will_fail(404, "not_found_error", "no model fake-model", code="model_not_found")
        failure = await failing(connected)
    assert isinstance(failure, ModelNotFound)
    assert isinstance(failure, NotFound)
    assert (failure.code, failure.retryable) == (ModelErrorCode.NOT_FOUND, False)


@pytest.mark.parametrize(
    ("kind", "message", "code"),
    [
        (OPENAI, "This model's maximum context length is 8192 tokens.", "context_length_exceeded"),
        (ANTHROPIC, "prompt is too long: 210000 tokens > 200000 maximum", ""),
    ],
)
async def test_a_request_that_is_too_long_is_told_apart(kind: ProviderKind, message: str, code: str) -> None:
    async with connect(kind) as connected:
        connected.will_fail(400, "invalid_request_error", message, code=code)
        failure = await failing(connected)
    assert isinstance(failure, ModelContextLength)
    assert isinstance(failure, InvalidInput)
    assert (failure.code, failure.retryable) == (ModelErrorCode.CONTEXT_LENGTH, False)


@both
async def test_a_connection_that_breaks_in_the_middle_gives_what_came_and_then_fails(kind: ProviderKind) -> None:
    async with connect(kind) as connected:
        frames = connected.frames(WireAnswer(text=("first", "second")))
        cut = next(index for index, frame in enumerate(frames) if b"first" in frame) + 1
        connected.api.will(Answer((*frames[:cut], Break())))
        seen = []
        with pytest.raises(ModelUnavailable, match="broke off"):
            async for event in connected.provider.stream(MODEL, QUESTION):
                seen.append(event)
    assert seen == [TextDelta("first")]


@both
async def test_an_answer_that_just_stops_is_not_taken_for_a_whole_one(kind: ProviderKind) -> None:
    async with connect(kind) as connected:
        frames = connected.frames(WireAnswer(text=("first", "second")))
        cut = next(index for index, frame in enumerate(frames) if b"first" in frame) + 1
        connected.api.will(Answer(tuple(frames[:cut])))
        failure = await failing(connected)
    assert isinstance(failure, ModelBadOutput)
    assert (failure.code, failure.retryable) == (ModelErrorCode.BAD_OUTPUT, True)


@both
async def test_an_answer_without_any_content_is_bad_output(kind: ProviderKind) -> None:
    async with connect(kind) as connected:
        connected.api.will(Answer((b"<html>Welcome to the proxy</html>",), headers={"content-type": "text/html"}))
        assert isinstance(await failing(connected), ModelBadOutput)


@both
async def test_a_frame_that_is_not_json_is_bad_output(kind: ProviderKind) -> None:
    async with connect(kind) as connected:
        frames = connected.frames(WireAnswer(text=("first", "second")))
        broken = b'event: content_block_delta\ndata: {"type": "content_bl\n\n'
        connected.api.will(Answer((*frames[:3], broken, *frames[3:])))
        assert isinstance(await failing(connected), ModelBadOutput)


@pytest.mark.parametrize(
    ("kind", "frame"),
    [
        (OPENAI, b'data: {"error": {"message": "mid boom", "type": "server_error"}}\n\n'),
        (
            ANTHROPIC,
            b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}\n\n',
        ),
    ],
)
async def test_an_error_inside_the_stream_keeps_its_meaning(kind: ProviderKind, frame: bytes) -> None:
    async with connect(kind) as connected:
        frames = connected.frames(WireAnswer(text=("first", "second")))
        connected.api.will(Answer((*frames[:3], frame)))
        assert isinstance(await failing(connected), ModelUnavailable)


@both
async def test_a_silent_provider_times_out(kind: ProviderKind) -> None:
    async with connect(kind, timeouts=ProviderTimeouts(read=0.2)) as connected:
        connected.api.will(Answer((Hold(asyncio.Event()),)))
        failure = await failing(connected)
    assert isinstance(failure, ModelTimeout)
    assert isinstance(failure, DeadlineExceeded)
    assert (failure.code, failure.retryable) == (ModelErrorCode.TIMEOUT, True)
    assert "timeouts.read" in failure.message


@both
async def test_an_endpoint_that_is_not_there_is_unavailable(kind: ProviderKind) -> None:
    # Port 9 of loopback: nothing listens there, and nothing outside is asked.
    config = ProviderConfig(kind, (ModelConfig(MODEL),), base_url="http://127.0.0.1:9", api_key="k")
    registry = build_registry(ModelsConfig(providers={"main": config}), Surroundings({}))
    with pytest.raises(ModelUnavailable, match="base_url"):
        await registry.resolve(MODEL).provider.invoke(MODEL, QUESTION)
    await registry.close()


@both
async def test_an_answer_of_too_many_bytes_is_cut_off(kind: ProviderKind) -> None:
    async with connect(kind, max_answer_bytes=20_000) as connected:
        connected.will(WireAnswer(text=("x" * 1000,) * 100))
        failure = await failing(connected)
    assert isinstance(failure, ModelBadOutput)
    assert "max_answer_bytes" in failure.message


@both
async def test_a_redirect_is_not_followed(kind: ProviderKind) -> None:
    async with connect(kind) as connected:
        connected.api.will(Answer((), 307, {"location": "http://127.0.0.1:9/elsewhere"}))
        failure = await failing(connected)
    assert isinstance(failure, ModelBadRequest)
    assert "redirects elsewhere" in failure.message
    assert not failure.retryable


async def test_operations_that_a_vendor_lacks_are_refused() -> None:
    async with connect(ANTHROPIC) as anthropic, connect(OPENAI) as openai:
        with pytest.raises(NotAvailable, match="no embeddings"):
            await anthropic.provider.embed(MODEL, ["text"])
        with pytest.raises(NotAvailable, match="no reranking"):
            await anthropic.provider.rerank(MODEL, "query", ["text"], 1)
        # Nobody can count for this vendor without its tokenizer: the count says that it is an estimate.
        counted = await openai.provider.count_tokens(MODEL, QUESTION)
        assert counted.estimated
        assert 0 < counted.input_tokens < 10
