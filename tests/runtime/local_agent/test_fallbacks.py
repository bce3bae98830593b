"""Which failures of a model another one takes over, which not, and what the models used."""

import pytest

from portway.rpc.errors import InvalidInput, LimitExceeded, PortwayError, RateLimited, Reason, Unavailable, WrongState
from portway.runtime.sdk import (
    ArtifactRef,
    ImagePart,
    MessageRole,
    ModelAnswer,
    ModelMessage,
    ModelRequest,
    Part,
    RunInput,
    Usage,
    text_part,
)
from portway.runtime.sdk.testing import Things
from portway.runtime.sdk.testing.drive import context_for
from portway.runtime.sdk.testing.things import in_turn, says, transcript, wants
from tests.runtime.local_agent.playing import at_home, model, play, progress

MODELS = (model("a", vision=False, window=1000), model("b", window=1000), model("c", window=200_000))


def failure(code: str) -> PortwayError:
    return Unavailable("no", facts={"code": code})


def asked(things: Things) -> list[str]:
    return [request.model_id for request in things.model_requests]


@pytest.mark.parametrize(
    "error",
    [
        RateLimited("slow down", facts={"code": "model.rate_limited"}),
        Unavailable("overloaded", facts={"code": "model.unavailable"}),
        failure("model.timeout"),
        failure("model.bad_output"),
        failure("model.auth"),
        WrongState("stopped", reason=Reason.KILL_SWITCH),
    ],
)
async def test_what_another_model_may_do_better_falls_back_and_stays_with_it(error: PortwayError) -> None:
    things = Things(model=in_turn(error, wants(("do", "{}")), says("done")), models=MODELS, tools={"do": _ok})
    outcome = await play(things, config={"model": {"primary": "a", "fallbacks": ["b"]}})
    assert outcome.messages == ["done"]
    assert asked(things) == ["a", "b", "b"], "a model that failed is not asked again in this run"
    assert things.model_requests[0].fallback_model_ids == ()
    assert "the model a failed" in progress(outcome)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInput("bad", facts={"code": "model.bad_request"}), "model.bad_request"),
        (InvalidInput("no", facts={"code": "model.content_filter"}), "model.content_filter"),
        (LimitExceeded("spent", reason=Reason.BUDGET_EXHAUSTED), "budget.exhausted"),
    ],
)
async def test_what_no_other_model_would_mend_does_not(error: PortwayError, code: str) -> None:
    things = Things(model=in_turn(error), models=MODELS)
    outcome = await play(things, config={"model": {"primary": "a", "fallbacks": ["b"]}})
    assert (outcome.error_code, asked(things)) == (code, ["a"])


async def test_only_fallbacks_that_the_run_may_use_are_asked() -> None:
    things = Things(model=in_turn(failure("model.timeout"), failure("model.timeout")), models=MODELS)
    outcome = await play(things, config={"model": {"primary": "b", "fallbacks": ["c", "nothing", "b"]}})
    assert (outcome.error_code, asked(things)) == ("model.timeout", ["b", "c"])


async def test_a_talk_that_is_too_long_goes_to_a_model_with_more_room_when_nothing_is_left_to_shorten() -> None:
    too_long = InvalidInput("too long", facts={"code": "model.context_length"})
    things = Things(model=in_turn(too_long, too_long, too_long, says("it fits")), models=MODELS)
    things.history = transcript("a", "b")
    outcome = await play(things, config={"model": {"primary": "a", "fallbacks": ["b", "c"]}})
    assert outcome.messages == ["it fits"]
    assert asked(things) == ["a", "a", "a", "c"], "b has no more room than a"


async def test_a_fallback_that_sees_gets_the_picture_and_one_that_does_not_a_description() -> None:
    picture = Part(ImagePart(ArtifactRef("art_1", "image/png", "a.png", 10)))
    things = Things(model=in_turn(failure("model.unavailable"), says("a cat")), models=MODELS)
    context = at_home(context_for("", things, config={"model": {"primary": "a", "fallbacks": ["b"]}}))
    context = at_home(context, input=RunInput("see", (text_part("see"), picture)))
    await play(things, context=context)
    blind, seeing = (request.messages[-1] for request in things.model_requests)
    assert "[image: a.png, image/png, 10 bytes, id art_1]" in blind.text
    assert seeing.parts[1].content == picture.content


async def test_what_each_model_used_is_told_and_summed() -> None:
    def answers(request: ModelRequest) -> ModelAnswer | PortwayError:
        if request.model_id == "a" and len(request.messages) > 3:
            return failure("model.unavailable")
        answer = wants(("do", "{}")) if request.model_id == "a" else says("three words here")
        return ModelAnswer(answer.message, answer.finish_reason, Usage(10, 3), request.model_id)

    things = Things(model=answers, models=MODELS, tools={"do": _ok})
    outcome = await play(things, config={"model": {"primary": "a", "fallbacks": ["b"]}})
    assert (outcome.terminal.usage.input_tokens, outcome.terminal.usage.output_tokens) == (20, 6)
    assert "used: a 10 in, 3 out; b 10 in, 3 out" in progress(outcome)


async def test_reasoning_is_told_apart_also_where_a_model_writes_it_into_its_text() -> None:
    things = Things(model=in_turn(says("<think>is it\ntwo?</think>\n\nTwo. <think> is a tag.")))
    outcome = await play(things)
    deltas = [one.message_delta for one in outcome.results if one.HasField("message_delta")]
    assert "".join(one.reasoning for one in deltas) == "is it\ntwo?"
    assert outcome.messages == ["Two. <think> is a tag."]


async def test_what_a_model_thought_aloud_is_not_said_to_it_again() -> None:
    answer = wants(("do", "{}"), text="<think>hm</think>Let me see.")
    things = Things(model=in_turn(answer, says("done")), tools={"do": _ok})
    await play(things)
    spoken = [one for one in things.model_requests[1].messages if one.role is MessageRole.ASSISTANT]
    assert spoken[0].parts == ModelMessage.assistant("Let me see.").parts


async def _ok(arguments: object) -> str:
    return "ok"
