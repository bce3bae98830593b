"""What every runner that asks a service must do. Host and runtime are real; the service is a strict fake."""

import asyncio
import json
from typing import Any

import pytest

from tests.contracts.service.conftest import Subject
from tests.fakes.model_api import Answer, Break
from tests.fakes.services.api import KEY, Asked, document, never, page

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = "echo: hello there"
WAIT = 60


async def test_it_streams_an_answer_and_ends_with_the_whole(subject: Subject) -> None:
    run = await subject.ask()
    deltas = [result.message_delta for result in run.results if result.HasField("message_delta")]
    assert len([delta for delta in deltas if delta.text]) > 1
    assert run.kinds[-2:] == ["message_completed", "run_completed"]
    assert run.message.startswith(TEXT)
    assert "".join(delta.text for delta in deltas) == run.message
    assert bool([delta for delta in deltas if delta.reasoning]) == subject.vendor.thinks


async def test_it_takes_an_answer_in_one_piece(subject: Subject) -> None:
    if subject.vendor.runner == "n8n":
        subject.fake.streaming = False
    run = await subject.ask(**subject.vendor.plain)
    assert run.message.startswith(TEXT)
    assert run.kinds[-1] == "run_completed"


async def test_the_next_message_goes_to_the_same_conversation_and_another_person_has_their_own(
    subject: Subject,
) -> None:
    await subject.ask()
    await subject.ask("and then")
    await subject.ask("me too", actor="ben")
    first, second, other = (_place(one.body, one.query) for one in subject.fake.messages())
    assert second
    if subject.vendor.remembers:
        assert not first and second != other
    else:
        assert first == second == other


async def test_a_conversation_that_the_service_forgot_is_begun_anew_once(subject: Subject) -> None:
    if not subject.vendor.remembers:
        # Its sessions are named by us, so that none can be forgotten.
        assert not subject.things.state
        return
    await subject.ask()
    for kept in ("conversations", "sessions"):
        if hasattr(subject.fake, kept):
            getattr(subject.fake, kept).clear()
    run = await subject.ask("again")
    assert run.message.startswith("echo: again")
    assert len(subject.fake.messages()) == 3


async def test_files_of_the_message_reach_it(subject: Subject) -> None:
    data = b"first line\nsecond line\n" * 10
    about = subject.with_file(subject.vendor.files, data)
    run = await subject.ask(about=about, **subject.vendor.file_config)
    assert run.kinds[-1] == "run_completed", run.results
    sent = [file.data for asked in subject.fake.asked for file in asked.files]
    inlined = json.dumps([asked.body for asked in subject.fake.asked])
    assert sent == [data] or "second line" in inlined


async def test_a_file_that_is_too_large_is_not_sent(subject: Subject) -> None:
    about = subject.with_file(subject.vendor.files, b"x" * 200_000)
    more: dict[str, Any] = {} if subject.vendor.runner == "dashscope" else {"max_file_mb": 0.1}
    run = await subject.ask(about=about, **subject.vendor.file_config, **more)
    assert run.error.code in ("service.too_large", "service.unsupported")
    assert not subject.fake.asked


async def test_statuses_have_codes_and_nothing_is_asked_twice(subject: Subject) -> None:
    for status, code in [
        (400, "service.bad_request"),
        (402, "service.quota"),
        (403, "service.auth"),
        (404, "service.not_found"),
        (413, "service.too_large"),
        (429, "service.rate_limited"),
        (500, "service.unavailable"),
        (502, "service.unavailable"),
        (504, "service.timeout"),
    ]:
        before = len(subject.fake.messages())
        subject.fake.will(page(status))
        run = await subject.ask()
        assert run.error.code == code, (status, run.error)
        assert str(status) in run.error.message and "html" not in run.error.message.lower()
        assert len(subject.fake.messages()) == before + 1


async def test_a_short_pause_that_the_service_asks_for_is_waited_for(subject: Subject) -> None:
    subject.fake.will(document({"message": "busy"}, 429, retry_after="0"))
    assert (await subject.ask()).message.startswith(TEXT)
    subject.fake.will(document({"message": "busy"}, 503, retry_after="3600"))
    assert (await subject.ask()).error.retryable


async def test_a_wrong_key_is_told_without_repeating_it(subject: Subject) -> None:
    wrong = "wrong-key-9876543210"
    run = await subject.ask(**{subject.vendor.key_field: wrong})
    assert run.error.code == "service.auth", run.error
    assert wrong not in str(run.results)


async def test_answers_that_are_none_fail(subject: Subject) -> None:
    for answer in (
        Answer((b'{"half": ',), 200, {"content-type": "application/json"}),
        Answer((b"data: {nonsense\n\n",), 200, {"content-type": "text/event-stream"}),
        Answer((b"\xff\xfe\xfd\n\n",), 200, {"content-type": "text/event-stream"}),
        Answer((b"data: []\n\n",), 200, {"content-type": "text/event-stream"}),
        page(200),
        document({"ok": True}),
        Answer((b"",), 302, {"location": "http://127.0.0.1:1/elsewhere"}),
    ):
        subject.fake.will(answer)
        run = await subject.ask()
        assert run.error.code in ("service.bad_output", "runner.empty_output"), (answer, run.results)
    assert KEY not in str(run.results)


async def test_half_a_stream_is_never_an_answer(subject: Subject) -> None:
    whole = subject.fake.answer(await _last_message(subject)).pieces
    for end in ((), (Break(),)):
        subject.fake.will(Answer((*whole[: len(whole) // 2], *end), 200, _stream_headers(subject)))
        run = await subject.ask()
        assert run.error.code == "service.bad_output", run.results
        assert run.error.retryable


async def test_an_answer_without_end_is_bounded(subject: Subject) -> None:
    subject.fake.will(Answer((b"data: " + b"x" * 2_000_000,) * 20, 200, {"content-type": "text/event-stream"}))
    run = await subject.ask()
    assert run.error.code in ("service.bad_output", "service.too_large")
    assert (await subject.ask()).message.startswith(TEXT)


async def test_silence_ends_as_a_timeout(subject: Subject) -> None:
    subject.fake.will(Answer((never(),), 200, _stream_headers(subject)))
    run = await subject.ask(read_seconds=0.3, first_byte_seconds=WAIT)
    assert run.error.code == "service.timeout"
    assert "read_seconds" in run.error.message
    subject.fake.will(Answer((never(),), 200, _stream_headers(subject)))
    run = await subject.ask(total_seconds=0.3)
    assert run.error.code == "service.timeout"
    assert "total_seconds" in run.error.message


async def test_a_cancel_closes_the_connection(subject: Subject) -> None:
    whole = subject.fake.answer(await _last_message(subject)).pieces
    subject.fake.will(Answer((*whole[: len(whole) // 2], never()), 200, _stream_headers(subject)))
    async with subject.host.run("hello there", subject.runner_id, **subject.options()) as run:
        await run.until("message_delta")
        await run.cancel()
        await run.until_end()
    assert run.error.code == "cancelled"
    await asyncio.wait_for(subject.fake.client_left.wait(), WAIT)
    stopped = getattr(subject.fake, "stopped", None) or getattr(subject.fake, "cancelled", None)
    assert bool(stopped) == (subject.vendor.runner in ("dify", "coze"))


async def test_a_service_that_is_not_there_cannot_be_reached(subject: Subject) -> None:
    run = await subject.ask(**{subject.vendor.url_field: "http://127.0.0.1:1"})
    assert run.error.code == "service.unavailable"
    assert run.error.retryable


async def test_an_address_that_is_none_is_told_by_its_field(subject: Subject) -> None:
    for url, told in [("ftp://example.com", "http"), ("http://user:pw@example.com", "password"), ("nonsense", "http")]:
        run = await subject.ask(**{subject.vendor.url_field: url})
        assert run.error.code == "service.misconfigured"
        assert subject.vendor.url_field in run.error.message and told in run.error.message


def _place(body: dict[str, object], query: dict[str, str]) -> object:
    """Where a message says that it belongs."""
    inner = body.get("input")
    in_body = body.get("conversation_id") or body.get("conversationId") or body.get("session_id")
    in_input = inner.get("session_id") if isinstance(inner, dict) else None
    return in_body or body.get("sessionId") or query.get("conversation_id") or in_input


async def _last_message(subject: Subject) -> Asked:
    await subject.ask()
    asked: Asked = subject.fake.messages()[-1]
    return asked


def _stream_headers(subject: Subject) -> dict[str, str]:
    return {"content-type": "application/json" if subject.vendor.runner == "n8n" else "text/event-stream"}
