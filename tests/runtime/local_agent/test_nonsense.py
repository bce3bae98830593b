"""Models that write nonsense: each has an outcome that was decided beforehand."""

import json

import pytest

from portway.runtime.official.local_agent.asking import MAX_REASONING, MAX_SAID_BYTES
from portway.runtime.official.local_agent.bounded import MAX_CALLS
from portway.runtime.official.local_agent.tools.arguments import BadArguments, read_arguments
from portway.runtime.sdk import FinishReason, ModelAnswer, ModelMessage, ModelRequest, ModelToolCall
from portway.runtime.sdk.testing import Things
from portway.runtime.sdk.testing.things import in_turn, says, wants
from portway.runtime.sdk.types.content import MessageRole
from portway.runtime.sdk.types.convert import Json
from portway.runtime.sdk.types.models import ReasoningBlock
from portway.v1 import run_result_pb2 as pb
from tests.runtime.local_agent.playing import model, play, progress, results_of, tool_errors


async def test_a_thousand_calls_in_one_turn_are_cut_to_what_fits_and_the_model_is_told() -> None:
    calls = wants(*(("do", json.dumps({"x": number})) for number in range(1000)))
    things = Things(model=in_turn(calls, says("done")), tools={"do": _ok})
    outcome = await play(things)
    asked = things.model_requests[1].messages[-MAX_CALLS - 1]
    assert len(asked.tool_calls) == len(things.tool_calls) == MAX_CALLS
    assert "936 more calls of this turn were left out" in results_of(things.model_requests[1])[-1].text
    assert outcome.messages == ["done"]


async def test_calls_without_ids_of_their_own_get_some() -> None:
    same = tuple(ModelToolCall(call_id, "do", "{}") for call_id in ("x", "x", "", "y" * 300))
    things = Things(model=in_turn(ModelAnswer(ModelMessage(MessageRole.ASSISTANT, (), same)), says("ok")))
    things.tools = {"do": _ok}
    await play(things, config={"repeat_limit": 0})
    ids = [one.call_id for one in results_of(things.model_requests[1])]
    assert len(set(ids)) == 4 and all(0 < len(one) <= 256 for one in ids)
    asked = next(one for one in things.model_requests[1].messages if one.tool_calls)
    assert [call.call_id for call in asked.tool_calls] == ids


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "no JSON object"),
        ("null", "no JSON object"),
        ('{"x": NaN}', "no JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 40 + "1" + "}" * 40, "nested too deeply"),
        ('{"x": 1' + "0" * 400 + "}", "too large"),
    ],
)
async def test_arguments_that_nothing_could_take_are_told_to_the_model(text: str, part: str) -> None:
    things = Things(model=in_turn(wants(("do", text)), says("sorry")), tools={"do": _ok})
    outcome = await play(things)
    assert part in results_of(things.model_requests[1])[0].text
    assert (tool_errors(outcome), outcome.messages, things.tool_calls) == (["tool.bad_arguments"], ["sorry"], [])


async def test_half_characters_in_arguments_become_whole_ones() -> None:
    pairs = '{"\\ud83d": "a\\ud83d b", "ok": "\\ud83d\\ude00"}'
    assert read_arguments(pairs) == {"\ufffd": "a\ufffd b", "ok": "😀"}
    things = Things(model=in_turn(wants(("do", pairs)), says("done")), tools={"do": _ok})
    assert (await play(things)).messages == ["done"]
    assert things.tool_calls[0][1] == {"\ufffd": "a\ufffd b", "ok": "😀"}


def test_arguments_of_nothing_are_an_empty_object() -> None:
    assert read_arguments("") == {}
    with pytest.raises(BadArguments):
        read_arguments('"text"')


async def test_huge_arguments_and_names_are_not_sent_back() -> None:
    huge = wants(("do", json.dumps({"x": "y" * 600_000})), ("n" * 5_000, "{}"))
    things = Things(model=in_turn(huge, says("done")), tools={"do": _ok})
    assert (await play(things)).messages == ["done"]
    asked = next(one for one in things.model_requests[1].messages if one.tool_calls)
    assert [len(call.arguments_json) < 100 for call in asked.tool_calls] == [True, True]
    assert len(asked.tool_calls[1].tool) == 256


async def test_an_answer_without_an_end_is_cut_and_said_to_be_longer() -> None:
    things = Things(model=in_turn(says("ä" * MAX_SAID_BYTES)))
    outcome = await play(things)
    assert 0 < len(outcome.messages[0].encode()) <= MAX_SAID_BYTES
    assert outcome.terminal.run_completed.finish_reason == pb.FINISH_REASON_LENGTH


async def test_endless_reasoning_goes_to_the_next_model_or_ends_the_run() -> None:
    def thinks(request: ModelRequest) -> ModelAnswer:
        return says("b says") if request.model_id == "b" else says(f"<think>{'h' * (MAX_REASONING + 1)}")

    models = (model("a"), model("b"))
    outcome = await play(Things(model=thinks, models=models), config={"model": {"primary": "a", "fallbacks": ["b"]}})
    assert outcome.messages == ["b says"]
    assert "the model a failed (model.bad_output)" in progress(outcome)
    alone = await play(Things(model=thinks, models=models[:1]))
    assert alone.error_code == "model.bad_output"


async def test_more_reasoning_blocks_than_a_request_takes_are_left_out() -> None:
    blocks = tuple(ReasoningBlock(f"thought {number}") for number in range(200))
    message = ModelMessage(MessageRole.ASSISTANT, (), (ModelToolCall("c", "do", "{}"),), reasoning_blocks=blocks)
    things = Things(model=in_turn(ModelAnswer(message), says("done")), tools={"do": _ok})
    await play(things)
    asked = next(one for one in things.model_requests[1].messages if one.tool_calls)
    assert asked.reasoning_blocks == blocks[-64:]


async def test_many_rounds_with_long_results_stay_within_what_a_request_takes() -> None:
    async def long(arguments: Json) -> str:
        return "z" * 32_000

    def model(request: ModelRequest) -> ModelAnswer:
        number = len(things.model_requests)
        if number > 8:
            return says("enough", finish=FinishReason.STOP)
        return wants(*(("do", json.dumps({"n": number, "x": x})) for x in range(40)))

    things = Things(model=model, tools={"do": long})
    outcome = await play(things, config={"max_rounds": 100, "history_tokens": 100})
    assert outcome.messages == ["enough"], outcome.terminal
    for request in things.model_requests:
        results = [one.call_id for one in results_of(request)]
        calls = [call.call_id for message in request.messages for call in message.tool_calls]
        assert results == calls, "a call is never shown without its result"


async def _ok(arguments: Json) -> str:
    return "ok"
