"""What every call goes through, over the wire."""

import asyncio
import json

import grpc
import pytest

from portway.rpc.errors import (
    Cancelled,
    Conflict,
    DeadlineExceeded,
    InternalError,
    InvalidInput,
    LimitExceeded,
    NotAuthenticated,
    NotAvailable,
    NotPermitted,
    PayloadTooLarge,
    RateLimited,
    Reason,
    Unavailable,
)
from portway.rpc.limits import Limits
from portway.rpc.status import errors_by_meaning
from portway.rpc.tokens import mint_token
from tests.rpc.contract import EchoMessage
from tests.rpc.echo_server import ADMIN, MEMBER, SECRET_OF_A_BUG, EchoServicer, Stub, echo_server
from tests.rpc.logs import Logs


async def test_a_call_with_a_valid_token_is_answered_and_the_servicer_knows_the_caller() -> None:
    async with echo_server() as echo:
        answer = await echo.stub.method("Say")(EchoMessage(text="hello"), timeout=60)
        (call,) = echo.servicer.calls
    assert answer.text == "hello"
    assert call.caller.token_id == MEMBER.token_id
    assert call.caller.subject == "tester"


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ((), Reason.TOKEN_MISSING),
        ((("authorization", "Basic abc"),), Reason.TOKEN_INVALID),
        ((("authorization", "Bearer nonsense"),), Reason.TOKEN_INVALID),
        ((("authorization", f"Bearer {mint_token('member').text}"),), Reason.TOKEN_INVALID),
        ((("authorization", f"Bearer {MEMBER.text[:-1]}x"),), Reason.TOKEN_INVALID),
        ((("authorization", f"Bearer {MEMBER.text}"), ("authorization", f"Bearer {ADMIN.text}")), Reason.TOKEN_MISSING),
    ],
)
async def test_without_one_valid_token_nothing_is_called(metadata: tuple[tuple[str, str], ...], reason: Reason) -> None:
    async with echo_server() as echo:
        with pytest.raises(NotAuthenticated) as refused, errors_by_meaning():
            await Stub(echo.stranger).method("Say")(EchoMessage(), metadata=metadata, timeout=60)
        assert refused.value.reason == reason
        assert echo.servicer.calls == []


async def test_a_role_that_lacks_the_method_is_not_permitted_and_admin_always_is() -> None:
    async with echo_server() as echo:
        with pytest.raises(NotPermitted) as refused, errors_by_meaning():
            await echo.stub.method("Administer")(EchoMessage(), timeout=60)
        with pytest.raises(NotAvailable), errors_by_meaning():
            await Stub(echo.admin).method("Administer")(EchoMessage(), timeout=60)
    assert refused.value.reason == Reason.ROLE_LACKS_METHOD


async def test_a_method_that_the_servicer_lacks_says_so_before_it_looks_at_the_request() -> None:
    async with echo_server() as echo:
        with pytest.raises(NotAvailable, match="not available in this version"), errors_by_meaning():
            await Stub(echo.member, raw=True).method("Later")(b"\xff", timeout=60)
        with pytest.raises(NotAuthenticated), errors_by_meaning():
            await Stub(echo.stranger).method("Later")(EchoMessage(), timeout=60)


async def test_a_method_that_no_contract_has_is_unimplemented() -> None:
    async with echo_server() as echo:
        with pytest.raises(NotAvailable), errors_by_meaning():
            await echo.stub.method("Nothing")(EchoMessage(), timeout=60)


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
async def test_bytes_that_are_no_message_are_refused_without_the_parsers_words(kind: str) -> None:
    names = {"unary_unary": "Say", "unary_stream": "Count", "stream_unary": "Collect", "stream_stream": "Chat"}
    async with echo_server() as echo:
        method = Stub(echo.member, raw=True).method(names[kind], kind)
        with pytest.raises(InvalidInput) as refused, errors_by_meaning():
            call = method(b"\xff\xff" if kind.startswith("unary") else iter([b"\xff\xff"]), timeout=60)
            if kind.endswith("unary"):
                await call
            else:
                await call.read()
    assert refused.value.reason == Reason.UNPARSABLE_MESSAGE
    assert refused.value.message == "the request is not a portway.test.v1.EchoMessage"


async def test_each_broken_rule_is_named_with_its_field() -> None:
    async with echo_server() as echo:
        with pytest.raises(InvalidInput) as refused, errors_by_meaning():
            await echo.stub.method("Say")(EchoMessage(text="x" * 200, parts=[{"name": "a"}, {}]), timeout=60)
        with pytest.raises(InvalidInput) as refused_frame, errors_by_meaning():
            await echo.stub.method("Chat", "stream_stream")(iter([EchoMessage(count=-1)]), timeout=60).read()
    assert [one.field for one in refused.value.fields] == ["text", "parts[1].name"]
    assert [one.field for one in refused_frame.value.fields] == ["count"]


async def test_only_the_first_frame_of_a_stream_is_checked_against_the_rules() -> None:
    async with echo_server() as echo:
        call = echo.stub.method("Chat", "stream_stream")(iter([EchoMessage(), EchoMessage(count=-1)]), timeout=60)
        assert [message.count async for message in call] == [0, -1]


async def test_a_call_without_a_request_message_is_answered() -> None:
    async with echo_server() as echo:
        with pytest.raises(InvalidInput) as refused, errors_by_meaning():
            await echo.stub.method("Say", "stream_unary")(iter([]), timeout=60)
    assert refused.value.reason == Reason.MISSING_MESSAGE


@pytest.mark.parametrize("size", [5_000_000, 20_000_000])
async def test_a_message_over_the_limit_is_refused(size: int) -> None:
    async with echo_server() as echo:
        with pytest.raises(LimitExceeded), errors_by_meaning():
            await echo.stub.method("Say")(EchoMessage(data=b"x" * size), timeout=60)


async def test_a_response_over_the_limit_is_refused_with_its_size() -> None:
    async with echo_server() as echo:
        with pytest.raises(PayloadTooLarge, match="the response has 50000"), errors_by_meaning():
            await echo.stub.method("Say")(EchoMessage(text="huge"), timeout=60)


async def test_an_error_arrives_with_the_meaning_it_was_raised_with() -> None:
    raised = Conflict("there is another one", reason=Reason.SAME_KEY_OTHER_BODY, facts={"event_id": "evt_1"})
    async with echo_server(EchoServicer(raises=raised)) as echo:
        with pytest.raises(Conflict, match="there is another one") as refused, errors_by_meaning():
            await echo.stub.method("Say")(EchoMessage(), timeout=60)
    assert refused.value.reason == Reason.SAME_KEY_OTHER_BODY
    assert refused.value.facts == {"event_id": "evt_1"}


async def test_an_error_from_a_task_group_keeps_its_meaning() -> None:
    group = ExceptionGroup("tasks", [Cancelled("gone"), ExceptionGroup("more", [Conflict("the cause")])])
    async with echo_server(EchoServicer(raises=group)) as echo:
        with pytest.raises(Conflict, match="the cause"), errors_by_meaning():
            await echo.stub.method("Say")(EchoMessage(), timeout=60)


@pytest.mark.parametrize(("method", "kind"), [("Say", "unary_unary"), ("Count", "unary_stream")])
async def test_a_bug_tells_the_caller_an_id_that_is_in_the_log_and_nothing_else(
    method: str, kind: str, logs: Logs
) -> None:
    async with echo_server(EchoServicer(raises=ValueError(SECRET_OF_A_BUG))) as echo:
        with pytest.raises(InternalError) as refused, errors_by_meaning():
            call = echo.stub.method(method, kind)(EchoMessage(text="fail"), timeout=60)
            await (call if kind == "unary_unary" else call.read())
    error_id = refused.value.facts["error_id"]
    assert error_id in refused.value.message
    assert "hunter2" not in refused.value.message
    (bug,) = [line for line in logs.lines() if line["event"] == "bug in a handler"]
    assert bug["error_id"] == error_id
    assert "hunter2" in bug["exception"]


async def test_work_that_was_cancelled_inside_is_answered_as_unavailable() -> None:
    async with echo_server(EchoServicer(raises=asyncio.CancelledError())) as echo:
        with pytest.raises(Unavailable), errors_by_meaning():
            await echo.stub.method("Say")(EchoMessage(), timeout=60)


async def test_the_callers_deadline_ends_the_work() -> None:
    async with echo_server() as echo:
        with pytest.raises(DeadlineExceeded), errors_by_meaning():
            await echo.stub.method("Say")(EchoMessage(text="wait"), timeout=0.2)
        await asyncio.wait_for(echo.servicer.ended.wait(), 60)
    assert echo.servicer.seen == ["cancelled"]


async def test_a_caller_that_goes_away_is_no_bug(logs: Logs) -> None:
    async with echo_server() as echo:
        call = echo.stub.method("Count", "unary_stream")(EchoMessage(count=3, text="wait"), timeout=60)
        await call.read()
        await echo.servicer.waiting.wait()
        call.cancel()
        await asyncio.wait_for(echo.servicer.ended.wait(), 60)
    assert echo.servicer.seen == ["cancelled"]
    (line,) = [line for line in logs.lines() if line["event"] == "rpc"]
    assert line["code"] == "CANCELLED"
    assert line["level"] == "info"


async def test_an_upload_whose_caller_goes_away_never_looks_complete() -> None:
    async with echo_server() as echo:
        for number in range(20):
            echo.servicer.waiting.clear()
            call = echo.stub.method("Collect", "stream_unary")(timeout=60)
            await call.write(EchoMessage(text=str(number)))
            await echo.servicer.waiting.wait()
            call.cancel()
    assert echo.servicer.seen == [str(number) for number in range(20)]


async def test_an_upload_that_ends_is_complete() -> None:
    async with echo_server() as echo:
        answer = await echo.stub.method("Collect", "stream_unary")(iter([EchoMessage(), EchoMessage()]), timeout=60)
    assert answer.count == 2
    assert echo.servicer.seen == ["", "", "committed"]


async def test_a_refusal_reaches_a_caller_that_is_still_sending() -> None:
    async with echo_server() as echo:
        for _ in range(20):
            call = echo.stub.method("Chat", "stream_stream")(timeout=60)
            with pytest.raises(InvalidInput, match="text"), errors_by_meaning():
                await call.write(EchoMessage(text="x" * 101))
                for _ in range(20):
                    await call.write(EchoMessage(data=b"x" * 1000))
                await call.done_writing()
                await call.read()


async def test_a_refusal_does_not_wait_for_ever_for_a_caller_that_sends_no_end() -> None:
    async with echo_server() as echo:
        call = echo.stub.method("Chat", "stream_stream")(timeout=60)
        await call.write(EchoMessage(text="x" * 101))
        with pytest.raises(InvalidInput, match="text"), errors_by_meaning():
            await call.read()


async def test_a_relay_passes_bytes_it_cannot_parse() -> None:
    async with echo_server() as echo:
        call = Stub(echo.member, raw=True).method("Relay", "stream_stream")(iter([b"\xff\xff", b""]), timeout=60)
        assert [raw async for raw in call] == [b"\xff\xff", b""]


async def test_raw_methods_get_and_give_bytes() -> None:
    async with echo_server(raw_methods=frozenset({"Chat"})) as echo:
        call = Stub(echo.member, raw=True).method("Chat", "stream_stream")(iter([b"\xff\xff"]), timeout=60)
        assert [raw async for raw in call] == [b"\xff\xff"]


async def test_calls_past_the_limit_are_refused_at_once_and_say_when_to_retry() -> None:
    async with echo_server(limits=Limits(concurrent_calls=1)) as echo:
        first = asyncio.ensure_future(echo.stub.method("Say")(EchoMessage(text="wait"), timeout=60))
        await echo.servicer.waiting.wait()
        with pytest.raises(LimitExceeded) as refused, errors_by_meaning():
            await echo.stub.method("Say")(EchoMessage(), timeout=60)
        echo.servicer.release.set()
        await first
    assert refused.value.reason == Reason.OVERLOADED
    assert refused.value.retry_after == 1.0


async def test_a_caller_over_its_rate_is_refused_and_others_are_not() -> None:
    async with echo_server(limits=Limits(rate=0.001, burst=2)) as echo:
        for _ in range(2):
            await echo.stub.method("Say")(EchoMessage(), timeout=60)
        with pytest.raises(RateLimited) as refused, errors_by_meaning():
            await echo.stub.method("Say")(EchoMessage(), timeout=60)
        await Stub(echo.admin).method("Say")(EchoMessage(), timeout=60)
    assert refused.value.retry_after is not None
    assert refused.value.quota is not None


async def test_one_line_is_logged_for_each_call_and_no_body(logs: Logs) -> None:
    async with echo_server() as echo:
        await echo.stub.method("Say")(EchoMessage(text="private words"), timeout=60)
        call = echo.stub.method("Chat", "stream_stream")(iter([EchoMessage(text="private words")] * 3), timeout=60)
        assert len([message async for message in call]) == 3
    lines = [line for line in logs.lines() if line["event"] == "rpc"]
    assert [(line["method"].rpartition("/")[2], line["code"]) for line in lines] == [("Say", "OK"), ("Chat", "OK")]
    assert {line["caller"] for line in lines} == {MEMBER.token_id}
    assert all(line["ms"] >= 0 and line["trace_id"] for line in lines)
    assert "private words" not in json.dumps(lines)
    assert MEMBER.text not in json.dumps(lines)


async def test_the_trace_of_a_caller_goes_on_in_the_server() -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    async with echo_server() as echo:
        metadata = (("traceparent", f"00-{trace_id}-b7ad6b7169203331-01"),)
        await echo.stub.method("Say")(EchoMessage(), metadata=metadata, timeout=60)
        await echo.stub.method("Say")(EchoMessage(), metadata=(("traceparent", "nonsense"),), timeout=60)
        first, second = echo.servicer.calls
    assert first.trace_id == trace_id
    assert second.trace_id != trace_id
    assert len(second.trace_id) == 32


async def test_the_status_of_a_refusal_carries_error_info_for_clients_in_any_language() -> None:
    async with echo_server() as echo:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await Stub(echo.stranger).method("Say")(EchoMessage(), timeout=60)
    trailers = dict(refused.value.trailing_metadata() or ())
    assert b"TOKEN_MISSING" in trailers["grpc-status-details-bin"]
    assert b"portway" in trailers["grpc-status-details-bin"]


@pytest.mark.parametrize("count", [1, 2, 20])
async def test_a_refusal_reaches_who_streams_to_a_method_that_takes_one_message(count: int) -> None:
    async with echo_server() as echo:
        for stub, method, meaning in (
            (Stub(echo.stranger), "Say", NotAuthenticated),
            (echo.stub, "Administer", NotPermitted),
        ):
            for _ in range(20):
                call = stub.method(method, "stream_stream")(iter([EchoMessage(text="x" * 1000)] * count), timeout=60)
                with pytest.raises(meaning), errors_by_meaning():
                    await call.read()
