"""The bundled agent, against the kit's host: history, models, tools, steering, and what it does when these fail."""

import json
from dataclasses import replace

import pytest

from portway.rpc.errors import InvalidInput, LimitExceeded, PortwayError, RateLimited, Reason, Unavailable
from portway.runtime.official.local_agent.agent import LocalAgent
from portway.runtime.official.local_agent.context.tokens import tokens_in
from portway.runtime.official.local_agent.tools.round import MAX_TEXT, text_of_result
from portway.runtime.sdk import (
    ArtifactRef,
    FilePart,
    ImagePart,
    MessageRole,
    ModelAnswer,
    ModelRequest,
    Part,
    RunContext,
    RunInput,
    SteeringMessage,
    ToolResult,
    text_of,
    text_part,
)
from portway.runtime.sdk.testing import Outcome, Things, run_runner
from portway.runtime.sdk.testing.drive import context_for
from portway.runtime.sdk.testing.things import in_turn, says, transcript, wants
from portway.runtime.sdk.types.content import Part as AnyPart
from portway.runtime.sdk.types.convert import Json
from portway.runtime.sdk.types.models import ModelToolCall
from portway.runtime.sdk.types.resources import ModelResource
from portway.v1 import run_result_pb2 as pb
from tests.waiting import until

PERMISSIONS = ["models.invoke", "models.stream", "tools.call", "history.page", "artifacts.metadata", "artifacts.read"]


async def _run(
    things: Things, text: str = "hello", *, config: Json | None = None, context: RunContext | None = None
) -> Outcome:
    return await run_runner(LocalAgent, text, things=things, permissions=PERMISSIONS, config=config, context=context)


def _texts(request: ModelRequest) -> list[tuple[MessageRole, str]]:
    return [(message.role, message.text) for message in request.messages]


async def _echo(arguments: Json) -> str:
    return f"did {arguments['x']}"


async def test_it_streams_an_answer_and_sums_its_usage() -> None:
    things = Things(model=in_turn(says("a short answer")))
    outcome = await _run(things)
    assert outcome.streamed == "a short answer"
    assert outcome.messages == ["a short answer"]
    assert outcome.kinds[-2:] == ["message_completed", "run_completed"]
    assert (outcome.terminal.usage.input_tokens, outcome.terminal.usage.output_tokens) == (10, 3)
    assert outcome.terminal.run_completed.finish_reason == pb.FINISH_REASON_STOP


async def test_the_model_sees_instructions_history_and_the_message_in_order() -> None:
    things = Things(model=in_turn(says("ok")), history=transcript("first", "reply", "second", "reply two"))
    await _run(things, "third", config={"prompt": "Be kind."})
    texts = _texts(things.model_requests[0])
    assert texts[0] == (MessageRole.SYSTEM, "Be kind.")
    assert texts[1][1].startswith("Today is ")
    assert [text for _, text in texts[2:]] == ["first", "reply", "second", "reply two", "third"]


async def test_a_prompt_may_be_a_list_of_messages() -> None:
    things = Things(model=in_turn(says("ok")))
    prompt = [{"role": "system", "content": "One."}, {"role": "user", "content": "Two."}]
    await _run(things, config={"prompt": prompt})
    roles = [message.role for message in things.model_requests[0].messages[:2]]
    assert roles == [MessageRole.SYSTEM, MessageRole.USER]


async def test_history_stays_within_its_budget_and_begins_with_a_person() -> None:
    history = transcript(*(f"message number {number} " + "x" * 400 for number in range(60)))
    things = Things(model=in_turn(says("ok")), history=history)
    await _run(things, config={"history_tokens": 1000})
    kept = things.model_requests[0].messages[2:-1]
    assert kept[0].role is MessageRole.USER
    assert kept[-1].text == history[-1].content
    assert 0 < sum(tokens_in(message.text) for message in kept) <= 1000


async def test_a_long_conversation_is_paged_and_cut_at_a_number_of_messages() -> None:
    things = Things(model=in_turn(says("ok")), history=transcript(*(f"m{number}" for number in range(1000))))
    await _run(things)
    assert len(things.model_requests[0].messages) <= 403
    assert things.model_requests[0].messages[-2].text == "m999"


async def test_notices_and_redacted_messages_are_not_shown_to_the_model() -> None:
    first, second, third, fourth = transcript("one", "two", "three", "four")
    history = (first, replace(second, kind="notice"), replace(third, redacted=True), replace(fourth, content=""))
    things = Things(model=in_turn(says("ok")), history=history)
    await _run(things)
    assert [message.text for message in things.model_requests[0].messages[2:]] == ["one", "hello"]


async def test_it_calls_a_tool_and_tells_the_model_what_came_of_it() -> None:
    things = Things(model=in_turn(wants(("do", '{"x": 1}'), text="Let me see."), says("done")), tools={"do": _echo})
    outcome = await _run(things)
    assert outcome.messages == ["Let me see.\n\ndone"]
    assert outcome.streamed == "Let me see.\n\ndone"
    assert [kind for kind in outcome.kinds if kind.startswith("tool")] == ["tool_call_started", "tool_call_completed"]
    assert outcome.terminal.usage.input_tokens == 20
    second = things.model_requests[1].messages
    assert second[-2].tool_calls == (ModelToolCall("call_0", "do", '{"x": 1}'),)
    result = second[-1].tool_result
    assert result is not None
    assert (result.call_id, result.tool, result.text, result.is_error) == ("call_0", "do", "did 1", False)


async def test_tools_are_called_side_by_side_and_answered_in_the_models_order() -> None:
    arrived: list[int] = []

    async def meet(arguments: Json) -> str:
        """Returns only when all three are here."""
        arrived.append(arguments["x"])
        await until(lambda: len(arrived) == 3)
        return f"did {arguments['x']}"

    calls = wants(*(("do", json.dumps({"x": number})) for number in range(3)))
    things = Things(model=in_turn(calls, says("all done")), tools={"do": meet})
    await _run(things)
    results = [message.tool_result for message in things.model_requests[1].messages[-3:]]
    assert [(one.call_id, one.text) for one in results if one] == [
        ("call_0", "did 0"),
        ("call_1", "did 1"),
        ("call_2", "did 2"),
    ]


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (("nothing", "{}"), "there is no tool 'nothing'; there are: do"),
        (("do", "{not json"), "no JSON object"),
        (("do", "[1]"), "no JSON object"),
        (("do", '{"y": 1}'), "arguments.x: is missing"),
    ],
)
async def test_what_goes_wrong_with_a_tool_is_told_to_the_model(call: tuple[str, str], part: str) -> None:
    async def strict(arguments: Json) -> str:
        if "x" not in arguments:
            raise InvalidInput.field("arguments.x", "is missing")
        return "never"

    things = Things(model=in_turn(wants(call), says("I could not do it")), tools={"do": strict})
    outcome = await _run(things)
    result = things.model_requests[1].messages[-1].tool_result
    assert result is not None
    assert result.is_error
    assert part in result.text
    assert outcome.messages == ["I could not do it"]
    completed = next(one.tool_call_completed for one in outcome.results if one.HasField("tool_call_completed"))
    assert completed.error.code.startswith("tool.")


async def test_a_tool_that_says_it_failed_is_told_as_an_error() -> None:
    async def fails(arguments: Json) -> ToolResult:
        return ToolResult("exit code 1", is_error=True)

    things = Things(model=in_turn(wants(("do", "{}")), says("it failed")), tools={"do": fails})
    outcome = await _run(things)
    result = things.model_requests[1].messages[-1].tool_result
    assert result is not None
    assert (result.text, result.is_error) == ("exit code 1", True)
    assert outcome.messages == ["it failed"]


async def test_a_second_attempt_makes_the_same_calls_under_the_same_ids() -> None:
    answers = (wants(("do", '{"x": 1}'), ("do", '{"x": 2}')), wants(("do", '{"x": 3}')), says("done"))
    first = Things(model=in_turn(*answers), tools={"do": _echo})
    await _run(first)
    ids = [call_id for _, _, call_id in first.tool_calls]
    assert len(set(ids)) == 3
    again = Things(model=in_turn(*answers), tools={"do": _echo}, tool_results=first.tool_results)
    outcome = await _run(again)
    assert again.tool_calls == [], "every result was recorded: nothing is done twice"
    assert outcome.messages == ["done"]


async def test_other_arguments_in_a_second_attempt_do_not_take_the_first_ones_result() -> None:
    first = Things(model=in_turn(wants(("do", '{"x": 1}')), says("done")), tools={"do": _echo})
    await _run(first)
    again = Things(model=in_turn(wants(("do", '{"x": 2}')), says("done")), tools={"do": _echo})
    again.tool_results = dict(first.tool_results)
    await _run(again)
    assert [arguments for _, arguments, _ in again.tool_calls] == [{"x": 2}]


async def test_a_call_whose_effect_is_unknown_fails_the_run_and_is_not_made_again() -> None:
    first = Things(model=in_turn(wants(("do", '{"x": 1}')), says("done")), tools={"do": _echo})
    await _run(first)
    lost = dict.fromkeys(first.tool_results)
    again = Things(model=in_turn(wants(("do", '{"x": 1}'))), tools={"do": _echo}, tool_results=lost)
    outcome = await _run(again)
    assert outcome.error_code == "tool.effect_unknown"
    assert "it was not run again" in outcome.terminal.run_failed.error.message
    assert again.tool_calls == []


async def test_a_spent_budget_ends_the_run() -> None:
    async def spent(arguments: Json) -> str:
        raise LimitExceeded("the run has spent its budget", reason=Reason.BUDGET_EXHAUSTED)

    things = Things(model=in_turn(wants(("do", "{}"))), tools={"do": spent})
    assert (await _run(things)).error_code == "budget.exhausted"


async def test_the_rounds_of_tools_are_limited_and_the_model_then_answers_without() -> None:
    def model(request: ModelRequest) -> ModelAnswer:
        return says("that is enough") if request.tool_choice == "none" else wants(("do", '{"x": 1}'))

    things = Things(model=model, tools={"do": _echo})
    outcome = await _run(things, config={"max_rounds": 3})
    assert len(things.tool_calls) == 3
    assert outcome.messages == ["that is enough"]
    assert outcome.terminal.run_completed.finish_reason == pb.FINISH_REASON_TOOL_LIMIT


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (RateLimited("slow down", facts={"code": "model.rate_limited"}), "model.rate_limited", True),
        (Unavailable("away", facts={"code": "model.unavailable"}), "model.unavailable", True),
        (InvalidInput("bad", facts={"code": "model.bad_request"}), "model.bad_request", False),
    ],
)
async def test_a_models_failure_fails_the_run_with_its_code(error: PortwayError, code: str, retryable: bool) -> None:
    outcome = await _run(Things(model=in_turn(error)))
    assert (outcome.error_code, outcome.terminal.run_failed.error.retryable) == (code, retryable)


async def test_history_that_is_too_long_for_the_model_is_shortened() -> None:
    too_long = InvalidInput("too long", facts={"code": "model.context_length"})
    history = transcript(*(f"m{number}" for number in range(8)))
    things = Things(model=in_turn(too_long, too_long, says("now it fits")), history=history)
    outcome = await _run(things)
    assert outcome.messages == ["now it fits"]
    sizes = [len(request.messages) for request in things.model_requests]
    assert sizes == [11, 7, 5]


@pytest.mark.parametrize(
    ("config", "code", "part"),
    [
        ({"model": "nothing"}, "model.not_found", "'nothing' of config.model"),
        ({"temperature": "warm"}, "runner.error", "config.temperature"),
        ({"prompt": [1]}, "runner.error", "config.prompt"),
    ],
)
async def test_a_configuration_that_cannot_be_used_says_what_to_correct(config: Json, code: str, part: str) -> None:
    outcome = await _run(Things(model=in_turn()), config=config)
    assert outcome.error_code == code
    assert part in outcome.terminal.run_failed.error.message


async def test_without_any_model_it_says_so() -> None:
    outcome = await _run(Things(models=()))
    assert outcome.error_code == "model.not_found"


async def test_what_people_write_meanwhile_is_taken_up_before_the_next_question() -> None:
    things = Things(model=in_turn(wants(("do", '{"x": 1}')), says("as you wish")))

    async def interrupted(arguments: Json) -> str:
        things.steering.append(SteeringMessage("str_1", input=RunInput("in blue, please")))
        return "done"

    things.tools = {"do": interrupted}
    outcome = await run_runner(LocalAgent, things=things, permissions=PERMISSIONS, steered=True)
    assert things.model_requests[1].messages[-1].text == "in blue, please"
    assert outcome.messages == ["as you wish"]


async def test_pictures_are_passed_on_to_a_model_that_sees() -> None:
    picture = Part(ImagePart(ArtifactRef("art_1", "image/png", "a.png", 10)))
    context = _context(Things(), text_part("what is this?"), picture)
    things = Things(model=in_turn(says("a cat")))
    await _run(things, context=context)
    assert things.model_requests[0].messages[-1].parts == (text_part("what is this?"), picture)


async def test_files_are_described_and_small_text_is_written_out() -> None:
    note = ArtifactRef("art_1", "text/plain", "note.txt", 5)
    film = ArtifactRef("art_2", "application/zip", "all.zip", 2_000_000)
    things = Things(
        model=in_turn(says("ok")),
        models=(ModelResource("model", "llm", "fake", 0, False, True),),
        artifacts={"art_1": (note, b"hello"), "art_2": (film, b"")},
    )
    picture = Part(ImagePart(ArtifactRef("art_3", "image/png", "a.png", 10)))
    context = replace(
        _context(things, Part(FilePart(note)), picture),
        input=RunInput("", (Part(FilePart(note)), picture), (note, film)),
    )
    await _run(things, context=context)
    text = things.model_requests[0].messages[-1].text
    assert "[file: note.txt, text/plain, 5 bytes, id art_1]\nhello" in text
    assert "[image: a.png" in text
    assert text.count("note.txt") == 1
    assert "all.zip, application/zip, 2,000,000 bytes" in text


async def test_in_a_group_the_model_is_told_who_speaks() -> None:
    things = Things(model=in_turn(says("ok")))
    context = _context(things, text_part("hi"))
    group = replace(context.conversation, launcher_type="group")
    await _run(things, context=replace(context, conversation=group, actor=replace(context.actor, name="Ann")))
    assert things.model_requests[0].messages[-1].text == "Ann: hi"


async def test_an_event_without_words_is_data_and_not_dressed_up_as_a_persons() -> None:
    things = Things(model=in_turn(says("Welcome!")))
    context = _context(things)
    event = replace(context.event, type="member.joined", data={"member": "Ann"})
    await _run(things, context=replace(context, event=event))
    *system, last = things.model_requests[0].messages
    assert {message.role for message in system} == {MessageRole.SYSTEM}
    assert "Nobody wrote to you" in system[-1].text
    assert "Ann" not in "".join(message.text for message in system)
    assert last.text.startswith("[an event; nobody wrote this] ")
    assert '"event": "member.joined"' in last.text and '"data": {"member": "Ann"}' in last.text


async def test_a_model_that_says_nothing_is_asked_once_more_and_leaves_no_empty_message() -> None:
    outcome = await _run(Things(model=in_turn(says(""), says(""))))
    assert outcome.kinds == ["progress", "run_completed"]
    again = await _run(Things(model=in_turn(says(""), says("here"))))
    assert again.messages == ["here"]


async def test_what_the_host_does_not_offer_is_not_asked_for() -> None:
    things = Things(model=in_turn(says("ok")), history=transcript("a", "b"))
    context = context_for("hello", things)
    await _run(things, context=replace(context, context=replace(context.context, available_calls=())))
    assert things.refusals == []
    assert len(things.model_requests[0].messages) == 3


async def test_a_model_without_tools_is_offered_none() -> None:
    models = (ModelResource("model", "llm", "fake", 0, False, False),)
    things = Things(model=in_turn(says("ok")), models=models, tools={"do": _echo})
    await _run(things)
    assert things.model_requests[0].tools == ()


def test_long_results_keep_their_beginning_and_their_end() -> None:
    text = text_of_result(ToolResult("a" * MAX_TEXT + "b" * MAX_TEXT))
    assert text.startswith("aaa")
    assert text.endswith("bbb")
    assert "32,000 characters left out" in text
    assert text_of_result(ToolResult()) == "(no output)"


def test_tokens_are_counted_on_the_safe_side_for_every_script() -> None:
    assert tokens_in("four letters") == 4
    assert tokens_in("你好世界") == 5


def _context(things: Things, *parts: AnyPart) -> RunContext:
    return replace(context_for("", things), input=RunInput(text_of(parts), parts))
