"""Turns, waiting and trying again at one provider."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import aclosing

import pytest

from portway.server.models.config import ProviderLimits
from portway.server.models.errors import (
    ModelAuthFailed,
    ModelError,
    ModelRateLimited,
    ModelTimeout,
    ModelUnavailable,
)
from portway.server.models.flow.limited import LimitedProvider
from portway.server.models.flow.places import FairPlaces
from portway.server.models.flow.rate import RequestsPerMinute, Unlimited
from portway.server.models.types import (
    Caller,
    Completed,
    FinishReason,
    Message,
    MessageRole,
    ModelRequest,
    TextDelta,
    TextPart,
)
from tests.fakes.scripted_provider import Script, ScriptedProvider

QUESTION = ModelRequest((Message(MessageRole.USER, (TextPart("hi"),)),))
PATIENT = dataclasses.replace(QUESTION, caller=Caller("run", 60.0))
END = Completed(FinishReason.STOP, "x")


class Pauses:
    """Waits that take no time and are written down."""

    def __init__(self) -> None:
        self.taken: list[float] = []
        self.now = 0.0

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        self.now += seconds

    def clock(self) -> float:
        return self.now


def failing(kind: type[ModelError], retry_after: float | None = None) -> Script:
    return Script(error=kind("no", provider_id="p", model_id="x", retry_after=retry_after))


async def test_a_busy_run_does_not_hold_up_the_others() -> None:
    places = FairPlaces(1, 100)
    served: list[str] = []

    async def one(lane: str) -> None:
        await places.take(lane)
        served.append(lane)
        places.give_back()

    await places.take("first")
    async with asyncio.TaskGroup() as group:
        for lane in ["busy"] * 5 + ["quiet", "other", "quiet"]:
            group.create_task(one(lane))
        await asyncio.sleep(0)  # Lets each reach its place in the queue; nothing else is ready to run.
        places.give_back()
    assert served == ["busy", "quiet", "other", "busy", "quiet", "busy", "busy", "busy"]


async def test_who_leaves_the_queue_leaves_no_hole() -> None:
    places = FairPlaces(1, 2)
    await places.take("a")
    leaving = asyncio.create_task(places.take("b"))
    staying = asyncio.create_task(places.take("c"))
    await asyncio.sleep(0)
    crowded = [places.crowded]
    leaving.cancel()
    await asyncio.wait([leaving])
    crowded.append(places.crowded)
    assert crowded == [True, False]
    places.give_back()
    await staying
    # Cancelled in the very moment in which the place was given: it goes on to the next.
    unlucky = asyncio.create_task(places.take("d"))
    await asyncio.sleep(0)
    places.give_back()
    unlucky.cancel()
    await asyncio.wait([unlucky])
    await places.take("e")


async def test_a_failure_before_the_first_word_is_tried_again_with_growing_pauses() -> None:
    pauses = Pauses()
    inner = ScriptedProvider(
        "p", failing(ModelUnavailable), failing(ModelRateLimited, 7.0), Script((TextDelta("a"), END))
    )
    limited = LimitedProvider(inner, ProviderLimits(concurrency=1), Unlimited(), pauses)
    async with aclosing(limited.stream("x", PATIENT)) as events:
        assert [event async for event in events] == [TextDelta("a"), END]
    assert 0.25 <= pauses.taken[0] <= 0.5
    assert pauses.taken[1] == 7.0
    inner.settle()


@pytest.mark.parametrize(
    ("scripts", "raised"),
    [
        ([failing(ModelUnavailable)] * 3, ModelUnavailable),
        ([failing(ModelAuthFailed)], ModelAuthFailed),
        ([failing(ModelTimeout)], ModelTimeout),
        ([failing(ModelRateLimited, 3600.0)], ModelRateLimited),
        ([Script((TextDelta("a"),), error=failing(ModelUnavailable).error)], ModelUnavailable),
    ],
)
async def test_what_does_not_pass_or_was_begun_is_not_tried_again(
    scripts: list[Script], raised: type[ModelError]
) -> None:
    inner = ScriptedProvider("p", *scripts)
    limited = LimitedProvider(inner, ProviderLimits(retries=2), Unlimited(), Pauses())
    with pytest.raises(raised):
        async with aclosing(limited.stream("x", PATIENT)) as events:
            async for _ in events:
                pass
    inner.settle()


async def test_who_has_no_patience_is_told_at_once() -> None:
    inner = ScriptedProvider("p", failing(ModelUnavailable))
    limited = LimitedProvider(inner, ProviderLimits(retries=5), Unlimited(), Pauses())
    with pytest.raises(ModelUnavailable):
        await limited.invoke("x", QUESTION)


async def test_calls_beyond_the_minute_wait_as_long_as_their_run_can() -> None:
    pauses = Pauses()
    inner = ScriptedProvider("p", *[Script((END,))] * 2)
    limited = LimitedProvider(inner, ProviderLimits(), RequestsPerMinute(1, pauses.clock), pauses)
    await limited.invoke("x", PATIENT)
    await limited.invoke("x", PATIENT)
    assert pauses.taken == [pytest.approx(60.0)]
    hasty = dataclasses.replace(QUESTION, caller=Caller("run", 5.0))
    with pytest.raises(ModelRateLimited, match="requests_per_minute") as refused:
        await limited.invoke("x", hasty)
    assert refused.value.retry_after == pytest.approx(60.0)


async def test_a_provider_that_was_replaced_closes_when_its_last_call_ends() -> None:
    go = asyncio.Event()
    inner = ScriptedProvider("p", Script((TextDelta("a"),), wait=go, error=None))
    closed: list[bool] = []

    async def close() -> None:
        closed.append(True)

    inner.close = close  # type: ignore[method-assign]
    limited = LimitedProvider(inner, ProviderLimits(), Unlimited())
    async with aclosing(limited.stream("x", QUESTION)) as events:
        assert await anext(events) == TextDelta("a")
        await limited.retire()
        assert not closed
        go.set()
        assert [event async for event in events] == []
    assert closed == [True]
