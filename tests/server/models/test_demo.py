"""The demo provider, asked directly."""

from __future__ import annotations

import json
from contextlib import aclosing

import pytest

from portway.server.models import demo
from portway.server.models.config import DemoConfig
from portway.server.models.errors import ModelNotFound
from portway.server.models.types import (
    Completed,
    FinishReason,
    ImagePart,
    Message,
    MessageRole,
    ModelEvent,
    ModelRequest,
    TextDelta,
    TextPart,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallPart,
    ToolCallStarted,
    ToolChoice,
    ToolChoiceMode,
    ToolDefinition,
    ToolResultPart,
    UsageReported,
)

EXEC = ToolDefinition("exec", "Runs a command.", {"type": "object", "properties": {"command": {"type": "string"}}})


def said(text: str, role: MessageRole = MessageRole.USER) -> Message:
    return Message(role, (TextPart(text),))


def asked(*messages: Message, tools: tuple[ToolDefinition, ...] = (EXEC,)) -> ModelRequest:
    return ModelRequest(messages, tools)


async def events_of(request: ModelRequest, model: str = demo.DEMO, slow: float = 0.0) -> list[ModelEvent]:
    async with aclosing(demo.DemoProvider(DemoConfig(slow)).stream(model, request)) as events:
        return [event async for event in events]


async def text_of(request: ModelRequest) -> str:
    return (await demo.DemoProvider(DemoConfig()).invoke(demo.DEMO, request)).message.text


async def test_it_says_that_it_is_a_demo_and_repeats_the_message() -> None:
    text = await text_of(asked(said("what is the time?")))
    assert "demo model" in text.lower()
    assert "> what is the time?" in text
    assert "No message before it" in text


async def test_the_same_messages_give_the_same_events() -> None:
    request = asked(said("be brief", MessageRole.SYSTEM), said("run: ls"))
    assert await events_of(request) == await events_of(request)


async def test_it_streams_word_by_word_in_chunks_that_can_be_derived_from_the_text() -> None:
    events = await events_of(asked(said("hello")))
    deltas = [event.text for event in events if isinstance(event, TextDelta)]
    assert deltas == demo.chunks_of("".join(deltas))
    assert 15 <= len(deltas) <= 30
    assert isinstance(events[-2], UsageReported)
    assert events[-2].usage.output_tokens == len(deltas)
    assert events[-1] == Completed(FinishReason.STOP, demo.DEMO)


@pytest.mark.parametrize("text", ["", " ", "a", "两个字 和更多的字" * 9, "a\n\nb\n", "x" * 100, "\tword  word "])
def test_chunks_are_short_and_lose_nothing(text: str) -> None:
    chunks = demo.chunks_of(text)
    assert "".join(chunks) == text
    assert all(0 < len(chunk) <= 16 for chunk in chunks)


async def test_demo_20_streams_exactly_20_chunks_whatever_it_is_asked() -> None:
    for request in (asked(said("run: ls")), asked(said("long " * 500)), asked()):
        events = await events_of(request, demo.DEMO_20)
        assert sum(isinstance(event, TextDelta) for event in events) == 20
        assert len(events) == 22


async def test_demo_slow_says_the_same_as_demo() -> None:
    quick = await events_of(asked(said("hello")))
    slow = await events_of(asked(said("hello")), demo.DEMO_SLOW, slow=0.0001)
    assert slow[:-1] == quick[:-1]
    assert slow[-1] == Completed(FinishReason.STOP, demo.DEMO_SLOW)


async def test_it_counts_the_messages_that_it_sees_and_remembers_nothing_else() -> None:
    history = (said("one"), said("two", MessageRole.ASSISTANT))
    assert "2 messages before it" in await text_of(asked(said("rules", MessageRole.SYSTEM), *history, said("three")))
    assert "No message before it" in await text_of(asked(said("three")))


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("run: echo hi in the sandbox", "echo hi in the sandbox"),
        ("RUN:ls", "ls"),
        ("please\nrun: for f in *; do\n  echo $f\ndone", "for f in *; do\n  echo $f\ndone"),
        ("run\uff1aecho 你好", "echo 你好"),
    ],
)
async def test_run_calls_exec_with_the_command(text: str, command: str) -> None:
    events = await events_of(asked(said(text)))
    [started] = [event for event in events if isinstance(event, ToolCallStarted)]
    [completed] = [event for event in events if isinstance(event, ToolCallCompleted)]
    deltas = [event.arguments_json for event in events if isinstance(event, ToolCallDelta)]
    assert started == ToolCallStarted(completed.call_id, "exec")
    assert "".join(deltas) == completed.arguments_json
    assert json.loads(completed.arguments_json) == {"command": command}
    assert events[-1] == Completed(FinishReason.TOOL_CALLS, demo.DEMO)


async def test_two_calls_of_one_conversation_have_different_ids() -> None:
    first = await events_of(asked(said("run: ls")))
    second = await events_of(asked(said("run: ls"), said("done", MessageRole.ASSISTANT), said("run: ls")))
    ids = {event.call_id for event in (*first, *second) if isinstance(event, ToolCallStarted)}
    assert len(ids) == 2


def after_call(*results: ToolResultPart) -> ModelRequest:
    calls = tuple(ToolCallPart(result.call_id, result.name, '{"command": "x"}') for result in results)
    return asked(said("run: x"), Message(MessageRole.ASSISTANT, calls), Message(MessageRole.TOOL, results))


async def test_it_answers_with_the_output_and_the_exit_code_of_the_result() -> None:
    text = await text_of(after_call(ToolResultPart("c1", "exec", "exit code 3\nhi in the sandbox\nsecond line\n")))
    assert "exit code 3" in text
    assert "```\nhi in the sandbox\nsecond line\n```" in text
    assert "demo model" in text


async def test_it_tells_when_a_command_printed_nothing_failed_or_answered_something_else() -> None:
    assert "printed nothing" in await text_of(after_call(ToolResultPart("c1", "exec", "exit code 0\n")))
    failed = await text_of(after_call(ToolResultPart("c1", "exec", "no such session", is_error=True)))
    assert "failed" in failed
    assert "no such session" in failed
    assert "plain words" in await text_of(after_call(ToolResultPart("c1", "other", "plain words")))


async def test_it_reports_every_result_of_a_turn() -> None:
    text = await text_of(
        after_call(
            ToolResultPart("c1", "exec", "exit code 0\nfirst"), ToolResultPart("c2", "exec", "exit code 1\nsecond")
        )
    )
    assert text.index("first") < text.index("second")


async def test_an_output_with_fences_stays_inside_its_block() -> None:
    text = await text_of(after_call(ToolResultPart("c1", "exec", "exit code 0\n```\ncode\n```")))
    assert "````\n```\ncode\n```\n````" in text


async def test_without_exec_it_says_what_to_do_and_calls_nothing() -> None:
    for request in (
        asked(said("run: ls"), tools=()),
        ModelRequest((said("run: ls"),), (EXEC,), ToolChoice(ToolChoiceMode.NONE)),
    ):
        answer = await demo.DemoProvider(DemoConfig()).invoke(demo.DEMO, request)
        assert answer.finish_reason is FinishReason.STOP
        assert "`exec` is not offered" in answer.message.text
        assert "box policy" in answer.message.text


async def test_it_stops_at_the_output_limit() -> None:
    request = ModelRequest((said("hello"),), max_output_tokens=3)
    events = await events_of(request)
    assert sum(isinstance(event, TextDelta) for event in events) == 3
    assert events[-1] == Completed(FinishReason.LENGTH, demo.DEMO)


async def test_it_mentions_pictures_and_shortens_a_long_message() -> None:
    picture = ImagePart(b"\x89PNG", "image/png")
    text = await text_of(asked(Message(MessageRole.USER, (TextPart("y" * 5000), picture))))
    assert "with 1 picture" in text
    assert "(shortened)" in text
    assert len(text) < 2500


async def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ModelNotFound, match="demo-20"):
        await events_of(asked(said("hi")), "demo-21")


async def test_it_counts_tokens_as_it_streams_them() -> None:
    counted = await demo.DemoProvider(DemoConfig()).count_tokens(demo.DEMO, asked(said("one two three")))
    assert (counted.input_tokens, counted.estimated) == (3, False)
