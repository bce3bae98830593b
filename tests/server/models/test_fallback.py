"""A model and those that take its place."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from portway.server.models.errors import (
    ModelAuthFailed,
    ModelBadOutput,
    ModelError,
    ModelErrorCode,
    ModelUnavailable,
    PassedOver,
)
from portway.server.models.fallback import ResolvedModel, RoutedEvent, invoke_with_fallback, stream_with_fallback
from portway.server.models.types import (
    Completed,
    FinishReason,
    Message,
    MessageRole,
    ModelInfo,
    ModelRequest,
    TextDelta,
    TextPart,
)
from tests.fakes.scripted_provider import Script, ScriptedProvider

QUESTION = ModelRequest((Message(MessageRole.USER, (TextPart("hi"),)),))
ANSWER = Script((TextDelta("well"), Completed(FinishReason.STOP, "served")))


def down(provider: str) -> ModelUnavailable:
    return ModelUnavailable(f"{provider} is down", provider_id=provider, model_id="x")


def model(provider_id: str, *scripts: Script) -> ResolvedModel:
    info = ModelInfo(f"{provider_id}-model", "x", provider_id, "openai")
    return ResolvedModel(info, "x", ScriptedProvider(provider_id, *scripts))


async def read(primary: ResolvedModel, *fallbacks: ResolvedModel) -> list[RoutedEvent]:
    async with aclosing(stream_with_fallback(primary, fallbacks, QUESTION)) as events:
        return [event async for event in events]


async def test_the_primary_answers_alone_when_it_can() -> None:
    unused = model("second")
    assert await read(model("first", ANSWER), unused) == list(ANSWER.events)
    assert isinstance(unused.provider, ScriptedProvider)
    assert unused.provider.asked.models == []


async def test_a_failure_before_the_first_event_passes_on_and_is_reported_first() -> None:
    refused = ModelAuthFailed("no key", provider_id="first", model_id="x")
    events = await read(
        model("first", Script(error=refused)), model("second", Script(error=down("second"))), model("third", ANSWER)
    )
    assert events == [
        PassedOver("first-model", ModelErrorCode.AUTH, "no key", False),
        PassedOver("second-model", ModelErrorCode.UNAVAILABLE, "second is down", True),
        *ANSWER.events,
    ]


async def test_a_failure_after_the_first_event_is_not_papered_over() -> None:
    unused = model("second")
    seen: list[RoutedEvent] = []
    broken = model("first", Script((TextDelta("we"),), error=down("first")))
    with pytest.raises(ModelUnavailable, match="first is down"):
        async with aclosing(stream_with_fallback(broken, [unused], QUESTION)) as events:
            async for event in events:
                seen.append(event)
    assert seen == [TextDelta("we")]


async def test_when_all_fail_the_last_failure_names_the_others() -> None:
    with pytest.raises(ModelError) as caught:
        await read(model("first", Script(error=down("first"))), model("second", Script(error=down("second"))))
    assert caught.value.provider_id == "second"
    assert [one.model_id for one in caught.value.passed_over] == ["first-model"]


async def test_a_whole_answer_comes_with_the_models_that_were_passed_over() -> None:
    answer, passed_over = await invoke_with_fallback(
        model("first", Script(error=down("first"))), [model("second", ANSWER)], QUESTION
    )
    assert answer.message.text == "well"
    assert [one.model_id for one in passed_over] == ["first-model"]


async def test_an_answer_without_an_end_is_an_error_that_names_its_model() -> None:
    with pytest.raises(ModelBadOutput, match="'second' stopped before its end"):
        await invoke_with_fallback(
            model("first", Script(error=down("first"))), [model("second", Script((TextDelta("a"),)))], QUESTION
        )
