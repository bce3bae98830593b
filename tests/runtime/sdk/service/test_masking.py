"""Secrets are taken out of everything that a run says, however it is cut."""

from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.runtime.sdk import (
    MessageCompleted,
    Progress,
    ReasoningDelta,
    RunCompleted,
    RunFailure,
    RunResult,
    TextDelta,
    ToolCallCompleted,
    ToolCallStarted,
    text_of,
)
from portway.runtime.sdk.service.masking import Mask, masked

SECRET, LONGER = "abcabcab-7", "abcabcab-7-and-more"


async def said(*results: RunResult, secrets: tuple[str, ...] = (SECRET, LONGER)) -> list[RunResult]:
    async def source() -> AsyncGenerator[RunResult, None]:
        for result in results:
            yield result

    return [result async for result in masked(source(), secrets)]


@given(st.lists(st.sampled_from(["a", "b", "c", "-", "7", "abc", SECRET, LONGER, " x"]), max_size=30))
async def test_what_is_streamed_is_what_is_completed_and_neither_has_a_secret(pieces: list[str]) -> None:
    whole = "".join(pieces)
    results = await said(*(TextDelta(piece, "m") for piece in pieces), MessageCompleted.of_text(whole, message_key="m"))
    streamed = "".join(result.text for result in results if isinstance(result, TextDelta))
    last = results[-1]
    assert isinstance(last, MessageCompleted)
    assert streamed == text_of(last.parts) == Mask((SECRET, LONGER)).text(whole)
    assert SECRET not in streamed


async def test_nothing_is_held_back_longer_than_it_must_be() -> None:
    results = await said(TextDelta("Hello abc", "m"), TextDelta(" there", "m"))
    assert [result.text for result in results if isinstance(result, TextDelta)] == ["Hello ", "abc there"]


async def test_other_results_have_no_secret_either() -> None:
    results = await said(
        Progress(f"asks {SECRET}"),
        ReasoningDelta(SECRET[:5], "m"),
        ReasoningDelta(SECRET[5:], "m"),
        ToolCallStarted("1", f"http {SECRET}", {SECRET: [{"key": LONGER}], "n": 1}),
        ToolCallCompleted("1", "http", f"said {SECRET}"),
        MessageCompleted.of_text("done", message_key="m"),
        RunCompleted(),
    )
    assert SECRET not in repr(results)
    assert repr(results).count("***") == 6


async def test_a_failure_is_told_without_secrets() -> None:
    async def failing() -> AsyncGenerator[RunResult, None]:
        yield TextDelta("x", "m")
        raise RunFailure("service.failed", f"it said {SECRET}", retryable=True)

    with pytest.raises(RunFailure) as failed:
        assert [result async for result in masked(failing(), (SECRET,))]
    assert (failed.value.error.message, str(failed.value)) == ("it said ***", "it said ***")
    assert (failed.value.error.code, failed.value.error.retryable) == ("service.failed", True)


async def test_words_are_not_secrets() -> None:
    (result,) = await said(Progress("a test of it"), secrets=("test", ""))
    assert result == Progress("a test of it")
