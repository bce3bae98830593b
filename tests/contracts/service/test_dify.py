"""What Dify alone does: kinds of applications, pauses for people, events beside the text."""

from typing import Any

import pytest

from tests.contracts.service.conftest import Subject, answering
from tests.fakes.model_api import Answer
from tests.fakes.services.api import document, events, stream
from tests.fakes.services.dify import FORM, paused

pytestmark = pytest.mark.asyncio(loop_scope="module")

IDS = {"task_id": "task-1", "conversation_id": "00000000-0000-4000-8000-000000000001"}


def said(*happened: dict[str, Any]) -> Answer:
    return stream(*events(*(("", IDS | one) for one in happened)))


END = {"event": "message_end", "metadata": {"usage": {"prompt_tokens": 7, "completion_tokens": 5}}}


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_workflow_gets_the_text_and_the_files_as_its_variables(dify: Subject, streaming: bool) -> None:
    about = dify.with_file("cat.png", b"picture")
    run = await dify.ask(about=about, mode="workflow", files_variable="files", streaming=streaming, inputs='{"a": 1}')
    assert run.message == "echo: hello there"
    sent = dify.fake.messages()[0].body["inputs"]
    assert (sent["a"], sent["query"], len(sent["files"])) == (1, "hello there", 1)
    assert not dify.things.state


@pytest.mark.parametrize("mode", ["workflow", "chatflow"])
async def test_a_pause_asks_people_and_their_answer_takes_it_up_again(dify: Subject, mode: str) -> None:
    dify.fake.will(paused())
    run = await dify.ask(mode=mode)
    assert run.kinds[-1] == "run_completed"
    question = dify.things.question
    assert question is not None
    assert (question.title, question.description) == (FORM["node_title"], FORM["form_content"])
    assert [field.id for field in question.fields] == ["feedback", "tone"]
    assert [action.id for action in question.actions] == ["approve"]
    assert not dify.fake.stopped
    assert "form-token-1" not in str(question)

    dify.things.question = None
    about = answering(question.interaction_id, "approve", feedback="good", tone="a")
    # Whoever answers, the workflow goes on as the person that it was begun for.
    resumed = await dify.ask("", actor="ben", about=about, mode=mode)
    assert resumed.message == "it went out"
    user = dify.fake.messages()[0].body["user"]
    assert dify.fake.submitted == [{"inputs": {"feedback": "good", "tone": "a"}, "action": "approve", "user": user}]

    again = await dify.ask("", about=answering(question.interaction_id, "approve"), mode=mode)
    assert again.error.code == "service.not_found"


async def test_a_form_that_is_sent_by_mail_is_told(dify: Subject) -> None:
    form = FORM | {"form_token": None}
    dify.fake.will(said({"event": "human_input_required", "data": form}, {"event": "workflow_paused", "data": {}}))
    run = await dify.ask(mode="chatflow")
    assert run.error.code == "service.unsupported"
    assert "WebApp" in run.error.message


async def test_an_agent_says_what_it_thinks_and_does_apart_from_its_answer(dify: Subject) -> None:
    thought = {"event": "agent_thought", "id": "t1", "thought": "I look", "tool": "search", "tool_input": '{"q": "x"}'}
    dify.fake.will(
        said(
            thought | {"observation": ""},
            thought | {"observation": "found"},
            {"event": "agent_message", "answer": "It "},
            {"event": "agent_message", "answer": "is so."},
            {"event": "message", "answer": "It is so."},
            END,
        )
    )
    run = await dify.ask(mode="agent", streaming=False)
    assert dify.fake.messages()[0].body["response_mode"] == "streaming"
    assert run.message == "It is so."
    assert {"tool_call_started", "tool_call_completed"} <= set(run.kinds)
    assert "I look" in "".join(result.message_delta.reasoning for result in run.results)


async def test_a_replaced_message_is_the_one_that_stays(dify: Subject) -> None:
    replaced = {"event": "message_replace", "answer": "I cannot say that."}
    dify.fake.will(said({"event": "message", "answer": "Bad words"}, replaced, END))
    assert (await dify.ask()).message == "I cannot say that."


async def test_reasoning_between_tags_is_no_text(dify: Subject) -> None:
    pieces = ["<thi", "nk>Hm", "m</th", "ink>\n\nYes", " < no"]
    dify.fake.will(said(*({"event": "message", "answer": piece} for piece in pieces), END))
    run = await dify.ask()
    assert run.message == "Yes < no"
    assert "".join(result.message_delta.reasoning for result in run.results) == "Hmm"


async def test_a_character_that_is_cut_in_two_is_whole(dify: Subject) -> None:
    halves = [b'{"event": "message", "answer": "a\\ud83d"}', b'{"event": "message", "answer": "\\ude00b \\udc00"}']
    end = b'{"event": "message_end", "metadata": {}}'
    dify.fake.will(stream(*(b"data: " + one + b"\n\n" for one in (*halves, end))))
    assert (await dify.ask()).message == "a😀b \ufffd"


async def test_a_pause_is_told_also_where_nothing_is_streamed(dify: Subject) -> None:
    data = {"workflow_run_id": "run-1", "status": "paused", "reasons": [{"TYPE": "human_input_required", **FORM}]}
    dify.fake.will(document({"event": "workflow_paused", "task_id": "task-1", **IDS, "data": data}))
    run = await dify.ask(mode="chatflow", streaming=False)
    assert run.kinds[-1] == "run_completed", run.results
    question = dify.things.question
    assert question is not None and question.title == FORM["node_title"]
    about = answering(question.interaction_id, "approve", feedback="good", tone="a")
    assert (await dify.ask("", about=about, mode="chatflow", streaming=False)).message == "it went out"


async def test_what_a_model_thinks_and_takes_back_is_told_apart(dify: Subject) -> None:
    thought = {"event": "reasoning_chunk", "data": {"reasoning": "Hm", "is_final": False}}
    wrong, right = ({"event": name, "data": {"text": name}} for name in ("text_chunk", "text_replace"))
    done = {"event": "workflow_finished", "data": {"status": "succeeded", "outputs": {"text": "text_replace"}}}
    dify.fake.will(said(thought, wrong, right, done))
    run = await dify.ask(mode="workflow")
    assert run.message == "text_replace"
    assert "".join(result.message_delta.reasoning for result in run.results) == "Hm"


async def test_a_picture_that_it_makes_becomes_a_file_here_and_a_foreign_one_a_link(dify: Subject) -> None:
    dify.fake.pages["/files/cat.png"] = Answer((b"picture",), 200, {"content-type": "image/png"})
    own = {"event": "message_file", "type": "image", "belongs_to": "assistant", "url": "/files/cat.png?sign=1"}
    asked_for = own | {"belongs_to": "user", "url": "/files/dog.png"}
    inside = own | {"url": "http://localhost:1/secret.png"}
    dify.fake.will(said({"event": "message", "answer": "Here"}, own, asked_for, inside, END))
    run = await dify.ask()
    (said_text, picture) = run.results[-2].message_completed.message.parts
    assert said_text.text.text == "Here\n\nfile: http://localhost:1/secret.png"
    kept, data = dify.things.artifacts[picture.image.artifact.artifact_id]
    assert (kept.name, kept.mime_type, data) == ("cat.png", "image/png", b"picture")
    fetch = next(one for one in dify.fake.asked if one.path == "/files/cat.png")
    assert "authorization" not in fetch.headers


async def test_a_conversation_that_is_over_is_begun_anew(dify: Subject) -> None:
    await dify.ask()
    over = {"code": "conversation_completed", "message": "The conversation has ended.", "status": 400}
    dify.fake.will(document(over, 400))
    assert (await dify.ask("again")).message.startswith("echo: again")
    assert dify.fake.messages()[-1].body["conversation_id"] == ""
    # What is not about the conversation leaves it as it is.
    dify.fake.will(document({"code": "not_found", "message": "Workflow not found", "status": 404}, 404))
    assert (await dify.ask()).error.code == "service.not_found"
    await dify.ask("more")
    assert dify.fake.messages()[-1].body["conversation_id"]


async def test_sources_are_listed_unless_told_otherwise_and_usage_is_told(dify: Subject) -> None:
    run = await dify.ask()
    assert run.message == "echo: hello there\n\n1. Handbook"
    assert (run.results[-1].usage.input_tokens, run.results[-1].usage.output_tokens) == (7, 5)
    assert (await dify.ask(show_references=False)).message == "echo: hello there"


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"event": "error", "code": "provider_quota_exceeded", "message": "no credit"}, "service.quota"),
        ({"event": "error", "code": "completion_request_error", "message": "it broke"}, "service.failed"),
        ({"event": "error", "code": "x", "message": "output moderation"}, "service.content_filter"),
        ({"event": "workflow_finished", "data": {"status": "failed", "error": "node 3"}}, "service.failed"),
        ({"event": "workflow_finished", "data": {"status": "stopped"}}, "service.failed"),
    ],
)
async def test_errors_inside_an_answer_end_the_run(dify: Subject, event: dict[str, Any], code: str) -> None:
    dify.fake.will(said({"event": "message", "answer": "Well"}, event))
    run = await dify.ask(mode="chatflow")
    assert run.error.code == code
    assert dify.fake.stopped == ["task-1"]


async def test_an_application_of_another_kind_is_told_as_a_wrong_configuration(dify: Subject) -> None:
    dify.fake.will(document({"code": "not_chat_app", "message": "check the app mode", "status": 400}, 400))
    assert (await dify.ask()).error.code == "service.misconfigured"


async def test_an_empty_answer_is_a_failure(dify: Subject) -> None:
    dify.fake.will(said({"event": "message", "answer": " "}, END))
    run = await dify.ask()
    assert run.error.code == "runner.empty_output"


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"mode": "poem"}, "mode"),
        ({"inputs": "[]"}, "inputs"),
        ({"read_seconds": "long"}, "read_seconds"),
        ({"streaming": "yes"}, "streaming"),
        ({"api_key": "schlüssel"}, "api_key"),
        ({"api_key": ""}, "api_key"),
    ],
)
async def test_a_wrong_configuration_names_its_field(dify: Subject, config: dict[str, Any], field: str) -> None:
    run = await dify.ask(**config)
    assert run.error.code == "service.misconfigured"
    assert f"config.{field}" in run.error.message
    assert not dify.fake.asked
