"""What one provider is sent at most."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from portway.server.models.config import ProviderLimits
from portway.server.models.errors import ModelRateLimited
from portway.server.models.flow.limited import LimitedProvider
from portway.server.models.flow.rate import RequestsPerMinute, Unlimited
from portway.server.models.types import (
    Completed,
    FinishReason,
    Message,
    MessageRole,
    ModelAnswer,
    ModelRequest,
    TextDelta,
    TextPart,
)
from tests.fakes.scripted_provider import Script, ScriptedProvider

QUESTION = ModelRequest((Message(MessageRole.USER, (TextPart("hi"),)),))
END = Completed(FinishReason.STOP, "x")


class HandClock:
    """A clock that moves when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_no_more_calls_run_at_a_time_than_allowed_and_all_are_answered() -> None:
    go = asyncio.Event()
    waiting = Script(events=(TextDelta("a"),), wait=go)
    inner = ScriptedProvider("p", *[waiting] * 5)
    limited = LimitedProvider(inner, ProviderLimits(concurrency=2, waiting=10), Unlimited())

    async def ask() -> list[object]:
        async with aclosing(limited.stream("x", QUESTION)) as events:
            return [event async for event in events]

    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(ask()) for _ in range(5)]
        await inner.asked.started.acquire()
        await inner.asked.started.acquire()
        go.set()
    assert inner.asked.most_running == 2
    assert [call.result() for call in calls] == [[TextDelta("a")]] * 5


async def test_more_waiting_calls_than_allowed_are_refused_at_once() -> None:
    go = asyncio.Event()
    ended = Script(events=(END,), wait=None)
    inner = ScriptedProvider("p", Script(wait=go, events=()), ended)
    limited = LimitedProvider(inner, ProviderLimits(concurrency=1, waiting=1), Unlimited())

    async def ask() -> list[object]:
        async with aclosing(limited.stream("x", QUESTION)) as events:
            return [event async for event in events]

    async with asyncio.TaskGroup() as group:
        group.create_task(ask())
        await inner.asked.started.acquire()
        second: asyncio.Task[ModelAnswer] = group.create_task(limited.invoke("x", QUESTION))
        await asyncio.sleep(0)  # Lets the second call reach its place in the queue; nothing else is ready to run.
        with pytest.raises(ModelRateLimited, match="too many calls wait") as caught:
            await limited.invoke("x", QUESTION)
        go.set()
    assert caught.value.retry_after == 1.0
    assert second.result().finish_reason is FinishReason.STOP


async def test_a_place_is_free_again_after_a_failure_and_after_a_reader_left() -> None:
    refused = ModelRateLimited("slow down", provider_id="p", model_id="x")
    inner = ScriptedProvider("p", Script(error=refused), Script((TextDelta("a"), END)), Script((END,)))
    limited = LimitedProvider(inner, ProviderLimits(concurrency=1, waiting=0), Unlimited())
    with pytest.raises(ModelRateLimited):
        await limited.invoke("x", QUESTION)
    async with aclosing(limited.stream("x", QUESTION)) as events:
        assert await anext(events) == TextDelta("a")
    assert inner.asked.running == 0
    assert (await limited.invoke("x", QUESTION)).finish_reason is FinishReason.STOP


async def test_calls_per_minute_are_refused_with_the_time_to_wait() -> None:
    clock = HandClock()
    inner = ScriptedProvider("p", *[Script((END,))] * 3)
    limited = LimitedProvider(inner, ProviderLimits(), RequestsPerMinute(2, clock))
    await limited.invoke("x", QUESTION)
    await limited.invoke("x", QUESTION)
    with pytest.raises(ModelRateLimited, match="requests_per_minute") as caught:
        await limited.invoke("x", QUESTION)
    assert caught.value.retry_after == pytest.approx(30.0)
    clock.now += 30.0
    await limited.invoke("x", QUESTION)
    inner.settle()


def test_an_idle_provider_saves_up_one_minute_and_no_more() -> None:
    clock = HandClock()
    rate = RequestsPerMinute(3, clock)
    clock.now += 3600
    assert [rate.wait_time() > 0 for _ in range(4)] == [False, False, False, True]
