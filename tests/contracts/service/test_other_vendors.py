"""What single vendors do beside what all of them do."""

import json
from typing import Any

import pytest

from tests.contracts.service.conftest import Bench, Subject
from tests.fakes.model_api import Answer
from tests.fakes.services.api import document, events, stream
from tests.fakes.services.n8n import json_lines
from tests.fakes.services.tbox import part

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("auth", "config"),
    [
        ("none", {}),
        ("basic", {"username": "someone", "password": "secret-key-0123456789"}),
        ("jwt", {"jwt_secret": "secret-key-0123456789"}),
    ],
)
async def test_a_webhook_is_called_with_the_proof_that_it_wants(n8n: Subject, auth: str, config: Any) -> None:
    n8n.fake.auth = auth
    assert (await n8n.ask(auth=auth, **config)).message == "echo: hello there"
    if auth != "none":
        wrong = {name: "another-key-000000" for name in config}
        assert (await n8n.ask(auth=auth, **wrong)).error.code == "service.auth"


async def test_a_webhook_that_nobody_listens_at_is_told(n8n: Subject) -> None:
    run = await n8n.ask(webhook_url=f"{n8n.fake.base_url}/webhook-test/chat")
    assert run.error.code == "service.not_found"
    assert "not registered" in run.error.message


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (document({"data": {"said": "deep"}}), "deep"),
        (document([{"data": {"said": {"a": 1}}}]), '{"a": 1}'),
        (document("just text"), "just text"),
        (Answer((b"Hello <b>you</b>",), 200, {"content-type": "text/html; charset=utf-8"}), "Hello <b>you</b>"),
        (Answer((b'{\n "data":\n {"said": "lines"}}',), 200, {"content-type": "application/json"}), "lines"),
    ],
)
async def test_what_a_last_node_says_is_found(n8n: Subject, answer: Answer, text: str) -> None:
    n8n.fake.will(answer)
    assert (await n8n.ask(output_key="data.said")).message == text


async def test_a_workflow_that_fails_is_told_as_that_and_one_that_starts_later_too(n8n: Subject) -> None:
    n8n.fake.will(document({"code": 0, "message": "Error in workflow"}, 500))
    run = await n8n.ask()
    assert (run.error.code, run.error.retryable) == ("service.failed", False)
    n8n.fake.will(Answer((b"n8n is starting up. Please wait",), 200, {"content-type": "text/html; charset=utf-8"}))
    run = await n8n.ask()
    assert (run.error.code, run.error.retryable) == ("service.unavailable", True)


async def test_a_file_is_an_answer(n8n: Subject) -> None:
    headers = {"content-type": "image/png", "content-disposition": 'attachment; filename="../a cat.png"'}
    n8n.fake.will(Answer((b"pic", b"ture"), 200, headers))
    run = await n8n.ask()
    (part,) = run.results[-2].message_completed.message.parts
    kept, data = n8n.things.artifacts[part.image.artifact.artifact_id]
    assert (kept.name, kept.mime_type, data) == ("a cat.png", "image/png", b"picture")


async def test_a_workflow_that_only_says_that_it_started_is_told(n8n: Subject) -> None:
    n8n.fake.will(document({"message": "Workflow was started"}))
    run = await n8n.ask()
    assert run.error.code == "service.bad_output"
    assert "output_key" in run.error.message and "message" in run.error.message


async def test_a_node_that_fails_amid_its_stream_fails_the_run(n8n: Subject) -> None:
    line = {"type": "error", "content": "the model said no", "metadata": {"nodeName": "AI Agent"}}
    begun = json_lines("half", whole=False)
    n8n.fake.will(Answer((*begun.pieces, json.dumps(line).encode() + b"\n"), 200, begun.headers))
    run = await n8n.ask()
    assert run.error.code == "service.failed"
    assert "the model said no" in run.error.message


CHAT = {"id": "chat-1", "conversation_id": "conversation-9"}


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ({"status": "requires_action", "required_action": {"type": "submit_tool_outputs"}}, "service.unsupported"),
        ({"status": "failed", "last_error": {"code": 4028, "msg": "no balance"}}, "service.quota"),
        ({"status": "failed", "last_error": {"code": 1, "msg": "sensitive content"}}, "service.content_filter"),
    ],
)
async def test_a_chat_that_cannot_go_on_is_told_and_cancelled(coze: Subject, state: Any, code: str) -> None:
    coze.fake.will(stream(*events((f"conversation.chat.{state['status']}", CHAT | state))))
    run = await coze.ask()
    assert run.error.code == code
    assert coze.fake.cancelled == ["chat-1"]


async def test_suggested_questions_are_shown_where_wanted(coze: Subject) -> None:
    assert "And then?" not in (await coze.ask()).message
    assert (await coze.ask(show_follow_ups=True)).message.endswith("\n\n- And then?")
    assert (await coze.ask(show_follow_ups=True, streaming=False)).message.endswith("\n\n- And then?")


async def test_a_refusal_with_a_good_status_is_one(coze: Subject) -> None:
    coze.fake.will(document({"code": 4013, "msg": "too many requests"}))
    assert (await coze.ask()).error.code == "service.rate_limited"


async def test_answers_that_are_withdrawn_are_none(bench: Bench) -> None:
    async with bench.subject("tbox") as tbox:
        tbox.fake.will(stream(*events(part("chunk", {"text": "Bad"}), part("revoke", {}), part("end", {}))))
        assert (await tbox.ask()).error.code == "service.content_filter"
        error = ("error", {"description": "请求过于频繁", "errorCode": "X"})
        tbox.fake.will(stream(*events(error)))
        assert (await tbox.ask()).error.code == "service.rate_limited"


async def test_a_flow_that_fails_amid_its_stream_fails_the_run(bench: Bench) -> None:
    async with bench.subject("langflow") as langflow:
        event = {"event": "error", "data": {"error": "component ChatOutput broke"}}
        langflow.fake.will(stream(json.dumps(event).encode() + b"\n\n"))
        run = await langflow.ask()
        assert run.error.code == "service.failed"
        assert "ChatOutput" in run.error.message


async def test_what_an_application_refuses_amid_its_stream_has_its_code(bench: Bench) -> None:
    async with bench.subject("dashscope") as dashscope:
        for code, meant in [
            ("DataInspectionFailed", "service.content_filter"),
            ("Throttling.AllocationQuota", "service.quota"),
            ("InternalError.Timeout", "service.unavailable"),
        ]:
            dashscope.fake.will(stream(*events(("error", {"code": code, "message": "no", "request_id": "r"}))))
            assert (await dashscope.ask()).error.code == meant
        said = {"output": {"workflow_message": {"message": {"content": "by a node"}}, "finish_reason": "stop"}}
        dashscope.fake.will(stream(*events(("result", said))))
        assert (await dashscope.ask(app_type="workflow")).message == "by a node"
