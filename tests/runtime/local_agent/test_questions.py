"""`ask_person`: the run ends with a question, and the run of its answer goes on where it was."""

from dataclasses import replace
from typing import Any

import pytest

from portway.runtime.official.local_agent.tools.pending import PENDING_KEY
from portway.runtime.sdk import InteractionAnswer, InteractionKind, MessageRole, ModelRequest, RunContext, RunInput
from portway.runtime.sdk.testing import Things
from portway.runtime.sdk.testing.drive import context_for
from portway.runtime.sdk.testing.things import in_turn, says, transcript, wants
from portway.runtime.sdk.types.convert import Json
from portway.v1 import run_result_pb2 as pb
from tests.runtime.local_agent.playing import PERMISSIONS, at_home, keep, kept, play, results_of, tool_errors

ASK = ("ask_person", '{"question": "Which city?\\nIt is for the trip.", "options": ["Rome", "Oslo"]}')


def answering(things: Things, action: str = "option_1", **changes: Any) -> RunContext:
    """The context of the run that the answer starts."""
    assert things.question is not None
    answer = InteractionAnswer(things.question.interaction_id, "run_test", action, {"note": "soon"})
    context = at_home(context_for("", things), input=RunInput(interaction=replace(answer, **changes)))
    event = replace(context.event, event_id="evt_answer", type="interaction.submitted")
    return replace(context, run_id="run_2", parent_run_id="run_test", event=event)


async def ask_first(things: Things) -> None:
    outcome = await play(things, "plan my trip")
    assert outcome.terminal.run_completed.finish_reason == pb.FINISH_REASON_AWAITING_INTERACTION


async def test_a_question_ends_the_run_and_its_answer_goes_on_with_the_same_calls() -> None:
    first = wants(("look", '{"x": 1}'), ASK, text="Let me see.")
    things = Things(model=in_turn(first, says("Rome it is.")), tools={"look": _look})
    outcome = await play(things, "plan my trip")
    assert outcome.messages == ["Let me see."]
    assert outcome.terminal.run_completed.finish_reason == pb.FINISH_REASON_AWAITING_INTERACTION
    asked = things.question
    assert asked is not None
    assert (asked.title, asked.description) == ("Which city?", "It is for the trip.")
    assert asked.kind is InteractionKind.CHOICE
    assert [(one.id, one.label) for one in asked.actions] == [("option_1", "Rome"), ("option_2", "Oslo")]
    assert asked.fallback_text.endswith("1. Rome\n2. Oslo")
    assert [name for name, _, _ in things.tool_calls] == ["look"]

    outcome = await play(things, context=answering(things))
    assert outcome.messages == ["Rome it is."]
    request = things.model_requests[1]
    assert [(one.call_id, one.tool) for one in results_of(request)] == [("call_0", "look"), ("call_1", "ask_person")]
    assert 'the person answered: {"action": "Rome", "values": {"note": "soon"}}' in results_of(request)[1].text
    assert [one.text for one in request.messages if one.role is MessageRole.USER] == ["plan my trip"]
    assert [name for name, _, _ in things.tool_calls] == ["look"], "nothing is called again"


async def test_what_the_first_run_had_is_not_shown_twice() -> None:
    things = Things(model=in_turn(wants(ASK, text="Hm."), says("done")), history=transcript("before", "reply"))
    await ask_first(things)
    begun, reply = transcript("plan my trip", "Hm.")
    things.history = (
        *transcript("before", "reply"),
        replace(begun, cursor="2", event_id="evt_test"),
        replace(reply, cursor="3", run_id="run_test"),
    )
    await play(things, context=answering(things))
    said = [one.text for one in things.model_requests[1].messages if one.role is not MessageRole.SYSTEM]
    assert said == [
        "before",
        "reply",
        "plan my trip",
        "Hm.",
        "",
    ]


@pytest.mark.parametrize(
    ("arguments", "kind", "fields"),
    [
        ('{"question": "Sure?"}', InteractionKind.CONFIRMATION, []),
        (
            '{"question": "Who?", "fields": [{"id": "n", "label": "Name", "required": true}, {"id": "c", "label": "C", '
            '"options": ["a"]}]}',
            InteractionKind.FORM,
            ["text", "select"],
        ),
    ],
)
async def test_questions_for_yes_or_no_and_forms(arguments: str, kind: InteractionKind, fields: list[str]) -> None:
    things = Things(model=in_turn(wants(("ask_person", arguments))))
    await ask_first(things)
    assert things.question is not None and things.question.kind is kind
    assert [one.type.name.lower() for one in things.question.fields] == fields


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ("{}", "arguments.question is missing"),
        ('{"question": "x", "options": "Rome"}', "arguments.options must be a list of texts"),
        ('{"question": "x", "fields": [{"id": "a", "label": "A", "type": "colour"}]}', "type must be one of"),
        ('{"question": "x", "fields": [{"id": "a", "label": "A"}, {"id": "a", "label": "B"}]}', "id of its own"),
    ],
)
async def test_a_question_that_cannot_be_asked_is_told_to_the_model(arguments: str, part: str) -> None:
    things = Things(model=in_turn(wants(("ask_person", arguments)), says("never mind")))
    outcome = await play(things)
    assert part in results_of(things.model_requests[1])[0].text
    assert (outcome.messages, things.question) == (["never mind"], None)


async def test_only_one_question_is_asked_and_the_other_is_told() -> None:
    other = ("ask_person", '{"question": "And when?"}')
    things = Things(model=in_turn(wants(ASK, other), says("ok")))
    outcome = await play(things, "plan my trip")
    assert sorted(tool_errors(outcome)) == ["tool.failed"]
    await play(things, context=answering(things))
    assert len(results_of(things.model_requests[1])) == 2


@pytest.mark.parametrize("damage", [None, "text", {"schema_version": 9}, {"schema_version": 1, "turns": [1]}])
async def test_an_answer_whose_context_is_lost_is_a_message_like_any_other(damage: Any) -> None:
    things = Things(model=in_turn(wants(ASK), says("I see.")))
    await ask_first(things)
    keep(things, PENDING_KEY, damage)
    outcome = await play(things, context=answering(things))
    assert outcome.messages == ["I see."]
    assert "answered the question with option_1" in things.model_requests[1].messages[-1].text


async def test_the_answer_to_another_question_does_not_take_up_this_ones_context() -> None:
    things = Things(model=in_turn(wants(ASK), says("I see.")))
    await ask_first(things)
    await play(things, context=answering(things, interaction_id="another"))
    assert results_of(things.model_requests[1]) == []


async def test_a_huge_context_is_kept_in_part() -> None:
    async def long(arguments: Json) -> str:
        return "z" * 32_000

    def model(request: ModelRequest) -> Any:
        number = len(things.model_requests)
        return wants(ASK) if number == 8 else says("ok") if number > 8 else wants(("do", f'{{"n": {number}}}'))

    things = Things(model=model, tools={"do": long})
    await ask_first(things)
    assert len(str(kept(things, PENDING_KEY))) < 200_000
    outcome = await play(things, context=answering(things))
    assert outcome.messages == ["ok"]
    assert results_of(things.model_requests[-1])[-1].tool == "ask_person"


async def test_where_nobody_may_ask_the_model_is_not_offered_it() -> None:
    for permissions, config in ((PERMISSIONS, {"ask_people": False}), (PERMISSIONS[:-3], {})):
        things = Things(model=in_turn(says("ok")))
        await play(things, config=config, permissions=permissions)
        assert things.model_requests[0].tools == ()


async def _look(arguments: Json) -> str:
    return "looked"
