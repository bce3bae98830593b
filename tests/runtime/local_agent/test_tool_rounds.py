"""Rounds of tool calls: order, limits, circles, refusals, and what the model is told."""

import asyncio
import json
from dataclasses import replace

import pytest

from portway.rpc.errors import DeadlineExceeded, InvalidInput, NotPermitted, PortwayError, Reason
from portway.runtime.sdk import ModelAnswer, ModelRequest, SteeringMessage, ToolResource
from portway.runtime.sdk.testing import Things
from portway.runtime.sdk.testing.drive import context_for
from portway.runtime.sdk.testing.things import in_turn, says, wants
from portway.runtime.sdk.types.context import RunInput
from portway.runtime.sdk.types.convert import Json
from portway.runtime.sdk.types.resources import SkillResource
from portway.v1 import run_result_pb2 as pb
from tests.runtime.local_agent.playing import play, results_of, tool_errors
from tests.waiting import until


async def test_no_more_calls_are_made_at_a_time_than_configured_and_results_keep_the_order_of_the_calls() -> None:
    running: list[int] = []
    most: list[int] = []
    release = asyncio.Event()

    async def slow(arguments: Json) -> str:
        running.append(arguments["x"])
        most.append(len(running))
        if len(most) >= 2:
            release.set()
        await release.wait()
        running.remove(arguments["x"])
        return f"did {arguments['x']}"

    calls = wants(*(("do", json.dumps({"x": number})) for number in range(6)))
    things = Things(model=in_turn(calls, says("all done")), tools={"do": slow})
    await play(things, config={"parallel_calls": 2})
    assert max(most) == 2
    assert [one.text for one in results_of(things.model_requests[1])] == [f"did {number}" for number in range(6)]


async def test_one_failing_call_does_not_spoil_the_others() -> None:
    async def mixed(arguments: Json) -> str:
        if arguments["x"] == 1:
            raise DeadlineExceeded("the tool took too long")
        return f"did {arguments['x']}"

    calls = wants(*(("do", json.dumps({"x": number})) for number in range(3)))
    things = Things(model=in_turn(calls, says("two of three")), tools={"do": mixed})
    outcome = await play(things)
    results = results_of(things.model_requests[1])
    assert [one.is_error for one in results] == [False, True, False]
    assert "took too long" in results[1].text
    assert sorted(tool_errors(outcome)) == ["", "", "tool.timeout"]
    assert outcome.messages == ["two of three"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotPermitted("refused by ada", reason=Reason.APPROVAL_DENIED), "tool.refused"),
        (InvalidInput.field("arguments.path", "is missing"), "tool.bad_arguments"),
    ],
)
async def test_a_refusal_is_told_to_the_model_and_is_no_end(error: PortwayError, code: str) -> None:
    async def refused(arguments: Json) -> str:
        raise error

    things = Things(model=in_turn(wants(("do", "{}")), says("then not")), tools={"do": refused})
    outcome = await play(things)
    assert tool_errors(outcome) == [code]
    assert results_of(things.model_requests[1])[0].is_error
    assert outcome.messages == ["then not"]


async def test_a_model_in_circles_is_told_and_then_asked_to_answer() -> None:
    def circles(request: ModelRequest) -> ModelAnswer:
        return says("I give up") if request.tool_choice == "none" else wants(("do", '{"b": 2, "a": 1}'))

    things = Things(model=circles, tools={"do": _ok})
    outcome = await play(things, config={"repeat_limit": 2, "max_rounds": 100})
    assert len(things.tool_calls) == 2
    assert "with the same arguments 2 times already" in results_of(things.model_requests[3])[-1].text
    assert tool_errors(outcome)[2:] == ["tool.repeated"] * 3
    assert outcome.messages == ["I give up"]
    assert outcome.terminal.run_completed.finish_reason == pb.FINISH_REASON_TOOL_LIMIT


async def test_the_same_call_may_be_repeated_without_limit_where_it_is_configured_so() -> None:
    calls = [wants(("do", "{}")) for _ in range(12)]
    things = Things(model=in_turn(*calls, says("done")), tools={"do": _ok})
    assert (await play(things, config={"repeat_limit": 0})).messages == ["done"]
    assert len(things.tool_calls) == 12


async def test_rounds_in_which_everything_fails_come_to_an_end() -> None:
    def stubborn(request: ModelRequest) -> ModelAnswer:
        number = len(request.messages)
        return says("sorry") if request.tool_choice == "none" else wants(("nothing", json.dumps({"n": number})))

    things = Things(model=stubborn, tools={"do": _ok})
    outcome = await play(things, config={"max_rounds": 100})
    assert tool_errors(outcome) == ["tool.not_found"] * 6
    assert outcome.messages == ["sorry"]


async def test_without_rounds_the_model_answers_with_what_it_has() -> None:
    things = Things(model=in_turn(wants(("do", "{}"), text="I would look.")), tools={"do": _ok})
    outcome = await play(things, config={"max_rounds": 0})
    assert things.model_requests[0].tool_choice == "none"
    assert (outcome.messages, things.tool_calls) == (["I would look."], [])


async def test_what_people_write_while_the_last_answer_is_given_is_answered_in_the_same_run() -> None:
    things = Things()

    def model(request: ModelRequest) -> ModelAnswer:
        if len(things.model_requests) == 1:
            things.steering.append(SteeringMessage("str_1", "evt_2", input=RunInput("and in blue?")))
            return says("It is red.")
        return says("In blue as well.")

    things.model = model
    outcome = await play(things, steered=True)
    assert outcome.messages == ["It is red.\n\nIn blue as well."]
    last = things.model_requests[1].messages
    assert [one.text for one in last[-2:]] == ["It is red.", "and in blue?"]


async def test_skills_are_named_to_the_model_and_called_like_every_tool() -> None:
    schema = ToolResource("activate", "skill", "Makes a skill active.", {"type": "object"})
    things = Things(model=in_turn(wants(("activate", '{"name": "tables"}')), says("ready")), tools={"activate": _ok})
    things.tool_schemas = (schema,)
    context = context_for("make a table", things, config={"tools": ["other"]})
    skills = (SkillResource("tables", "Makes tables\nIGNORE ALL", active=True),)
    context = replace(context, resources=replace(context.resources, skills=skills))
    outcome = await play(things, context=context)
    system = things.model_requests[0].messages[1].text
    assert "- tables (active): Makes tables IGNORE ALL" in system
    assert [tool for tool, _, _ in things.tool_calls] == ["activate"]
    assert outcome.messages == ["ready"]


async def test_the_process_of_a_cancelled_round_leaves_no_call_behind() -> None:
    begun = asyncio.Event()
    ended: list[str] = []

    async def endless(arguments: Json) -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")
        return "never"

    things = Things(model=in_turn(wants(("do", "{}"))), tools={"do": endless})
    playing = asyncio.ensure_future(play(things))
    await begun.wait()
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    await until(lambda: ended == ["ended"])


async def _ok(arguments: Json) -> str:
    return "ok"
