"""What providers make of the vendors' streams, over the wire and in both formats."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from portway.server.models.config import ProviderKind
from portway.server.models.types import (
    Completed,
    FinishReason,
    MessageRole,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    TextPart,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallPart,
    ToolCallStarted,
    Usage,
    UsageReported,
)
from tests.fakes.model_api import Answer, Hold
from tests.fakes.model_wire import WireAnswer, WireToolCall
from tests.server.models.endpoint import MODEL, QUESTION, connect

OPENAI, ANTHROPIC = ProviderKind.OPENAI, ProviderKind.ANTHROPIC
both = pytest.mark.parametrize("kind", [OPENAI, ANTHROPIC])


@both
async def test_text_arrives_piece_by_piece_and_ends_with_usage_and_the_reason(kind: ProviderKind) -> None:
    async with connect(kind) as connected:
        connected.will(WireAnswer(text=("Hel", "lo ", "world")))
        assert await connected.events() == [
            TextDelta("Hel"),
            TextDelta("lo "),
            TextDelta("world"),
            UsageReported(Usage(input_tokens=11, output_tokens=7)),
            Completed(FinishReason.STOP, "fake-model-2026"),
        ]


@both
async def test_a_piece_is_passed_on_before_the_next_one_exists(kind: ProviderKind) -> None:
    async with connect(kind) as connected:
        go_on = asyncio.Event()
        frames = connected.frames(WireAnswer(text=("first", "second")))
        cut = next(index for index, frame in enumerate(frames) if b"first" in frame) + 1
        connected.api.will(Answer((*frames[:cut], Hold(go_on), *frames[cut:])))
        async with aclosing(connected.provider.stream(MODEL, QUESTION)) as events:
            assert await anext(events) == TextDelta("first")
            go_on.set()
            assert await anext(events) == TextDelta("second")


@both
async def test_calls_arrive_with_their_arguments_in_pieces_and_then_whole(kind: ProviderKind) -> None:
    calls = (
        WireToolCall("call_1", "exec", ('{"comm', 'and": "ls"}')),
        WireToolCall("call_2", "read", ('{"path": "a"}',)),
    )
    async with connect(kind) as connected:
        connected.will(WireAnswer(text=("Look.",), tool_calls=calls))
        assert await connected.events() == [
            TextDelta("Look."),
            ToolCallStarted("call_1", "exec"),
            ToolCallDelta("call_1", '{"comm'),
            ToolCallDelta("call_1", 'and": "ls"}'),
            ToolCallCompleted("call_1", "exec", '{"command": "ls"}'),
            ToolCallStarted("call_2", "read"),
            ToolCallDelta("call_2", '{"path": "a"}'),
            ToolCallCompleted("call_2", "read", '{"path": "a"}'),
            UsageReported(Usage(input_tokens=11, output_tokens=7)),
            Completed(FinishReason.TOOL_CALLS, "fake-model-2026"),
        ]


@both
async def test_a_call_without_arguments_has_an_empty_object_and_broken_ones_stay_as_written(kind: ProviderKind) -> None:
    async with connect(kind) as connected:
        connected.will(WireAnswer(tool_calls=(WireToolCall("c1", "list", ()),)))
        connected.will(WireAnswer(tool_calls=(WireToolCall("c2", "list", ('{"a": ',)),)))
        assert ToolCallCompleted("c1", "list", "{}") in await connected.events()
        assert ToolCallCompleted("c2", "list", '{"a": ') in await connected.events()


@both
async def test_reasoning_is_kept_apart_from_text(kind: ProviderKind) -> None:
    async with connect(kind) as connected:
        connected.will(WireAnswer(reasoning=("let me ", "think"), text=("ok",)))
        events = await connected.events()
        assert [one.text for one in events if isinstance(one, ReasoningDelta) and one.text] == ["let me ", "think"]
        assert [one.text for one in events if isinstance(one, TextDelta)] == ["ok"]


async def test_the_signature_of_reasoning_ends_its_block() -> None:
    async with connect(ANTHROPIC) as connected:
        connected.will(WireAnswer(reasoning=("hm",), text=("ok",)))
        answer = await connected.provider.invoke(MODEL, QUESTION)
        assert answer.message.parts == (
            ReasoningPart("hm", signature="c2lnbmVk", provider_id="main"),
            TextPart("ok"),
        )


@both
async def test_invoke_gives_the_whole_answer(kind: ProviderKind) -> None:
    async with connect(kind) as connected:
        connected.will(WireAnswer(text=("a", "b"), tool_calls=(WireToolCall("c", "exec", ("{}",)),)))
        answer = await connected.provider.invoke(MODEL, QUESTION)
        assert answer.message.role is MessageRole.ASSISTANT
        assert answer.message.parts == (TextPart("ab"), ToolCallPart("c", "exec", "{}"))
        assert (answer.finish_reason, answer.model_id) == (FinishReason.TOOL_CALLS, "fake-model-2026")
        assert answer.usage == Usage(input_tokens=11, output_tokens=7)


@pytest.mark.parametrize(
    ("kind", "finish", "reason"),
    [
        (OPENAI, "length", FinishReason.LENGTH),
        (OPENAI, "content_filter", FinishReason.CONTENT_FILTER),
        (ANTHROPIC, "max_tokens", FinishReason.LENGTH),
        (ANTHROPIC, "stop_sequence", FinishReason.STOP),
        (ANTHROPIC, "refusal", FinishReason.CONTENT_FILTER),
    ],
)
async def test_the_reason_of_the_end_is_told(kind: ProviderKind, finish: str, reason: FinishReason) -> None:
    async with connect(kind) as connected:
        connected.will(WireAnswer(text=("cut",), finish=finish))
        assert (await connected.events())[-1] == Completed(reason, "fake-model-2026")


async def test_usage_that_was_not_reported_is_unknown_and_not_zero() -> None:
    async with connect(OPENAI) as connected:
        connected.will(WireAnswer(text=("ok",), usage=None))
        assert UsageReported(Usage()) in await connected.events()


@pytest.mark.parametrize(
    ("kind", "reported", "usage"),
    [
        (
            OPENAI,
            {"prompt_tokens_details": {"cached_tokens": 5}, "completion_tokens_details": {"reasoning_tokens": 3}},
            Usage(11, 7, cached_tokens=5, reasoning_tokens=3),
        ),
        (OPENAI, {"completion_tokens_details": {"reasoning_tokens": 0}}, Usage(11, 7, reasoning_tokens=0)),
        # This vendor counts what came from the cache beside the other input; here it is part of it.
        (ANTHROPIC, {"cache_read_input_tokens": 5}, Usage(16, 7, cached_tokens=5)),
        (ANTHROPIC, {"cache_read_input_tokens": 0}, Usage(11, 7, cached_tokens=0)),
    ],
)
async def test_cached_and_reasoning_tokens_are_reported(
    kind: ProviderKind, reported: dict[str, object], usage: Usage
) -> None:
    async with connect(kind) as connected:
        connected.will(WireAnswer(text=("ok",), usage=reported))
        assert UsageReported(usage) in await connected.events()


@both
async def test_a_reader_that_leaves_closes_the_request(kind: ProviderKind) -> None:
    async with connect(kind) as connected:
        frames = connected.frames(WireAnswer(text=("first", "second")))
        cut = next(index for index, frame in enumerate(frames) if b"first" in frame) + 1
        connected.api.will(Answer((*frames[:cut], Hold(asyncio.Event()))))
        async with aclosing(connected.provider.stream(MODEL, QUESTION)) as events:
            assert await anext(events) == TextDelta("first")
        await connected.api.client_left.wait()


@both
async def test_a_cancelled_reader_closes_the_request(kind: ProviderKind) -> None:
    async with connect(kind) as connected:
        frames = connected.frames(WireAnswer(text=("first",)))
        connected.api.will(Answer((*frames[:2], Hold(asyncio.Event()))))
        reading = asyncio.create_task(connected.events())
        await connected.api.arrived.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await connected.api.client_left.wait()
