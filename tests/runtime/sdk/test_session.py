"""What the SDK does between a runner and its stream: packing, credit, calls, deadlines."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from portway.rpc.call_errors import from_call_error, to_call_error
from portway.rpc.errors import (
    DeadlineExceeded,
    FieldViolation,
    InvalidInput,
    LimitExceeded,
    NotFound,
    PayloadTooLarge,
    PortwayError,
    RateLimited,
    Reason,
    Unavailable,
    WrongState,
)
from portway.runtime.sdk import RunFailure, TextDelta
from portway.runtime.sdk.session.calls import MAX_WAITING_BYTES, Calls
from portway.runtime.sdk.session.clock import RunClock
from portway.runtime.sdk.session.encode import MAX_RESULT_BYTES, ResultEncoder, ResultRefused
from portway.runtime.sdk.session.failures import failed
from portway.runtime.sdk.session.outbox import MAX_BYTES, MAX_FRAMES, Outbox
from portway.v1 import run_agent_pb2, run_call_pb2, run_pull_pb2, run_result_pb2
from tests.waiting import until

GET = run_pull_pb2.GetStateRequest(scope=run_result_pb2.STATE_SCOPE_CONVERSATION, key="k")


class Wire:
    """Where an outbox writes to; `hold` keeps it waiting."""

    def __init__(self) -> None:
        self.messages: list[run_agent_pb2.RunAgentResponse] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def write(self, raw: bytes) -> None:
        await self.gate.wait()
        self.messages.append(run_agent_pb2.RunAgentResponse.FromString(raw))

    @property
    def frames(self) -> list[run_agent_pb2.RunOutputFrame]:
        return [frame for message in self.messages for frame in message.frames]


def _frame(text: str, sequence: int = 1) -> bytes:
    frame = run_agent_pb2.RunOutputFrame()
    frame.result.sequence = sequence
    frame.result.message_delta.text = text
    return frame.SerializeToString()


async def _sent(frames: list[bytes], credit: int = 0) -> Wire:
    wire = Wire()
    outbox = Outbox(wire.write, credit)
    for frame in frames:
        outbox.put(frame)
    outbox.close()
    await outbox.pump()
    return wire


async def test_frames_are_packed_in_order_up_to_the_limits() -> None:
    wire = await _sent([_frame("x", number) for number in range(200)])
    assert [len(message.frames) for message in wire.messages] == [MAX_FRAMES, MAX_FRAMES, MAX_FRAMES, 8]
    assert [frame.result.sequence for frame in wire.frames] == list(range(200))


async def test_large_frames_are_packed_by_bytes_and_one_may_be_larger_than_a_pack() -> None:
    wire = await _sent([_frame("x" * 100_000) for _ in range(5)] + [_frame("y" * 1_000_000)])
    assert [len(message.frames) for message in wire.messages] == [2, 2, 1, 1]
    assert max(message.ByteSize() for message in wire.messages[:-1]) <= MAX_BYTES


@pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 1000, 1023, 1024, 16_383, 16_384, 300_000])
async def test_a_frame_of_any_length_is_read_as_it_was(length: int) -> None:
    wire = await _sent([_frame("x" * length)])
    assert wire.frames[0].result.message_delta.text == "x" * length


async def test_without_credit_nothing_is_sent_and_with_it_everything() -> None:
    wire = Wire()
    outbox = Outbox(wire.write, 10)
    pump = asyncio.ensure_future(outbox.pump())
    for number in range(3):
        outbox.put(_frame("x" * 100, number), urgent=True)
        await _settled()
    assert len(wire.frames) == 1, "the first overdraws the credit, the others wait"
    outbox.add_credit(1_000)
    outbox.close()
    await pump
    assert len(wire.frames) == 3


async def test_a_full_outbox_holds_up_whoever_puts_frames() -> None:
    wire = Wire()
    wire.gate.clear()
    outbox = Outbox(wire.write, 0)
    pump = asyncio.ensure_future(outbox.pump())
    while not outbox.full:
        outbox.put(_frame("x"))
    room = asyncio.ensure_future(outbox.room())
    await _settled()
    assert not room.done()
    wire.gate.set()
    await room
    outbox.close()
    await pump


async def _settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Asked:
    """Calls over a wire, and the answers that a test gives."""

    def __init__(self, deadline: datetime | None = None) -> None:
        self.wire = Wire()
        self._outbox = Outbox(self.wire.write, 0)
        self.calls = Calls(self._outbox, RunClock(deadline))
        self._pump = asyncio.ensure_future(self._outbox.pump())

    async def sent(self, count: int) -> list[run_call_pb2.RunCall]:
        await until(lambda: len(self.wire.frames) >= count)
        return [frame.call for frame in self.wire.frames]

    def answer(self, call_id: int, *, more: bool = False, version: int = 1) -> None:
        response = run_pull_pb2.GetStateResponse()
        response.value.version = version
        self.calls.on_answer(run_call_pb2.RunAnswer(call_id=call_id, more=more, get_state=response))

    async def close(self) -> None:
        self._outbox.close()
        await self._pump


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    asked = Asked()
    yield asked
    await asked.close()


async def test_answers_find_their_calls_in_any_order(asked: Asked) -> None:
    waiting = [asyncio.ensure_future(asked.calls.ask("get_state", GET)) for _ in range(3)]
    sent = await asked.sent(3)
    for call in reversed(sent):
        asked.answer(call.call_id, version=call.call_id * 10)
    assert [(await one).value.version for one in waiting] == [call.call_id * 10 for call in sent]


async def test_a_failed_call_raises_its_meaning(asked: Asked) -> None:
    waiting = asyncio.ensure_future(asked.calls.ask("get_state", GET))
    await asked.sent(1)
    error = to_call_error(NotFound.of("state value", "k"))
    asked.calls.on_answer(run_call_pb2.RunAnswer(call_id=1, error=error))
    with pytest.raises(NotFound, match="state value"):
        await waiting


async def test_a_call_that_nobody_waits_for_any_more_is_cancelled_at_the_host(asked: Asked) -> None:
    waiting = asyncio.ensure_future(asked.calls.ask("get_state", GET))
    await asked.sent(1)
    waiting.cancel()
    sent = await asked.sent(2)
    assert (sent[1].call_id, sent[1].cancel, sent[1].WhichOneof("kind")) == (1, True, None)
    asked.answer(1)


async def test_a_stream_that_is_left_early_is_cancelled_at_the_host(asked: Asked) -> None:
    async def first() -> int:
        async for answer in asked.calls.stream("get_state", GET):
            return int(answer.value.version)
        return 0

    waiting = asyncio.ensure_future(first())
    await asked.sent(1)
    asked.answer(1, more=True, version=7)
    assert await waiting == 7
    assert (await asked.sent(2))[1].cancel


async def test_a_request_that_fits_into_no_message_is_refused_here(asked: Asked) -> None:
    request = run_pull_pb2.RunnerServiceCallToolRequest(name="x" * 4_200_000)
    with pytest.raises(PayloadTooLarge, match="call_tool"):
        await asked.calls.ask("call_tool", request)
    await _settled()
    assert asked.wire.frames == []


async def test_an_upload_marks_all_but_its_last_piece(asked: Asked) -> None:
    async def pieces() -> AsyncIterator[run_pull_pb2.SetStorageRequest]:
        for _ in range(3):
            yield run_pull_pb2.SetStorageRequest(data=b"x")

    waiting = asyncio.ensure_future(asked.calls.upload("set_storage", pieces()))
    sent = await asked.sent(3)
    assert [(call.call_id, call.more) for call in sent] == [(1, True), (1, True), (1, False)]
    answer = run_call_pb2.RunAnswer(call_id=1, set_storage=run_pull_pb2.SetStorageResponse(size=3))
    asked.calls.on_answer(answer)
    assert (await waiting).size == 3


async def test_a_call_ends_with_the_runs_deadline() -> None:
    asked = Asked(datetime.now(UTC) + timedelta(milliseconds=20))
    with pytest.raises(DeadlineExceeded):
        await asked.calls.ask("get_state", GET)
    await asked.close()


async def test_the_time_stands_still_while_an_approval_is_waited_for() -> None:
    asked = Asked(datetime.now(UTC) + timedelta(milliseconds=20))
    asked.calls.pause("apr_1", True)
    asked.calls.pause("apr_2", True)
    asked.calls.pause("apr_1", False)
    waiting = asyncio.ensure_future(asked.calls.ask("get_state", GET))
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done
    asked.answer(1, version=4)
    assert (await waiting).value.version == 4
    asked.calls.pause("apr_2", False)
    with pytest.raises(DeadlineExceeded):
        await asked.calls.ask("get_state", GET)
    await asked.close()


async def test_a_host_that_is_gone_fails_open_and_later_calls(asked: Asked) -> None:
    waiting = asyncio.ensure_future(asked.calls.ask("get_state", GET))
    await asked.sent(1)
    asked.calls.close()
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        await asked.calls.ask("get_state", GET)


async def test_answers_that_nobody_reads_do_not_fill_the_memory(asked: Asked) -> None:
    stream = asked.calls.stream("read_artifact", run_pull_pb2.RunnerServiceReadArtifactRequest(artifact_id="a"))
    first = asyncio.ensure_future(anext(stream))
    await asked.sent(1)
    piece = run_pull_pb2.RunnerServiceReadArtifactResponse(data=b"x" * 1_000_000)
    for _ in range(MAX_WAITING_BYTES // 1_000_000 + 2):
        asked.calls.on_answer(run_call_pb2.RunAnswer(call_id=1, more=True, read_artifact=piece))
    assert await first
    with pytest.raises(LimitExceeded):
        async for _ in stream:
            pass


async def test_output_of_a_tool_that_nobody_reads_is_left_out_and_its_result_stays(asked: Asked) -> None:
    stream = asked.calls.stream("call_tool", run_pull_pb2.RunnerServiceCallToolRequest(name="t"))
    first = asyncio.ensure_future(anext(stream))
    await asked.sent(1)
    piece = run_pull_pb2.RunnerServiceCallToolResponse(partial_text="x" * 1_000_000)
    for _ in range(MAX_WAITING_BYTES // 1_000_000 + 5):
        asked.calls.on_answer(run_call_pb2.RunAnswer(call_id=1, more=True, call_tool=piece))
    result = run_pull_pb2.RunnerServiceCallToolResponse(result=run_pull_pb2.ToolResult(text="done"))
    await first
    asked.calls.on_answer(run_call_pb2.RunAnswer(call_id=1, call_tool=result))
    assert [answer async for answer in stream][-1].result.text == "done"


def test_a_refused_result_takes_no_number() -> None:
    encoder = ResultEncoder("run_1")
    encoder.encode(TextDelta("a"))
    for refused in ("no result", TextDelta("x" * MAX_RESULT_BYTES), TextDelta(None)):  # type: ignore[arg-type]
        with pytest.raises(ResultRefused):
            encoder.encode(refused)
    frame = run_agent_pb2.RunOutputFrame.FromString(encoder.encode(TextDelta("b", "key")))
    assert (frame.result.sequence, frame.result.message_delta.text) == (2, "b")
    assert frame.result.message_delta.message_key == "key"
    assert frame.result.HasField("time")


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (RunFailure("harness.bad_output", "no JSON"), "harness.bad_output", False),
        (ResultRefused("too large"), "runner.protocol", False),
        (DeadlineExceeded("late"), "runner.timeout", True),
        (LimitExceeded("spent", reason=Reason.BUDGET_EXHAUSTED), "budget.exhausted", False),
        (WrongState("lost", reason=Reason.EFFECT_UNKNOWN), "tool.effect_unknown", False),
        (RateLimited("slow down", reason="model.rate_limited"), "model.rate_limited", True),
        (NotFound("no model"), "runner.error", False),
        (ValueError("oops"), "runner.error", False),
    ],
)
def test_what_leaves_a_runner_becomes_a_published_code(error: Exception, code: str, retryable: bool) -> None:
    assert (failed(error).error.code, failed(error).error.retryable) == (code, retryable)


def test_secrets_do_not_leave_with_an_exception() -> None:
    message = failed(ValueError("key sk-abcdefghijklmnopqrstuvwx is wrong")).error.message
    assert "abcdefghijkl" not in message


@pytest.mark.parametrize(
    "error",
    [
        NotFound.of("model", "x"),
        InvalidInput("two", fields=[FieldViolation("a.b", "is missing"), FieldViolation("c", "is long")]),
        RateLimited("slow", retry_after=1.5),
        WrongState("lost", reason=Reason.EFFECT_UNKNOWN),
    ],
)
def test_the_failure_of_a_call_keeps_its_meaning_on_the_wire(error: PortwayError) -> None:
    back = from_call_error(to_call_error(error))
    assert type(back) is type(error)
    assert (back.message, back.reason, back.fields) == (error.message, error.reason, error.fields)
    assert back.retry_after == error.retry_after


def test_a_models_failure_has_its_published_code_as_the_reason() -> None:
    error = RateLimited("slow", facts={"code": "model.rate_limited"})
    assert to_call_error(error).reason == "model.rate_limited"
    assert isinstance(from_call_error(to_call_error(error)), LimitExceeded)
