"""Managed processes: they outlive their caller, their output is found by offset, their input can be resumed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import Conflict, InvalidInput, NotFound, OutOfRange, Reason
from portway.rpc.ids import new_id
from portway.rpc.status import errors_by_meaning
from portway.v1 import process_pb2, session_pb2
from tests.asking import ask
from tests.box.box_process import BoxProcess
from tests.box.inside import Inside, command, dial, new_session, seconds
from tests.box.machine import processes_with, seen, until_gone

RUNNING, EXITED = process_pb2.PROCESS_STATE_RUNNING, process_pb2.PROCESS_STATE_EXITED
Attach = grpc.aio.StreamStreamCall[process_pb2.AttachProcessRequest, process_pb2.AttachProcessResponse]
NEVER, ALWAYS = process_pb2.RESTART_POLICY_NEVER, process_pb2.RESTART_POLICY_ALWAYS
ON_FAILURE = process_pb2.RESTART_POLICY_ON_FAILURE


async def start(
    inside: Inside,
    script: str,
    process_id: str = "p",
    policy: process_pb2.RestartPolicy.ValueType = NEVER,
    *,
    hold: bool = False,
) -> process_pb2.StartProcessResponse:
    request = process_pb2.StartProcessRequest(
        session_id=inside.session_id,
        process_id=process_id,
        command=command(shell=script),
        restart_policy=policy,
        hold_output=hold,
    )
    answer: process_pb2.StartProcessResponse = await ask(inside.channel, request)
    return answer


async def get(inside: Inside, process_id: str = "p") -> process_pb2.Process:
    request = process_pb2.GetProcessRequest(session_id=inside.session_id, process_id=process_id)
    process: process_pb2.Process = (await ask(inside.channel, request)).process
    return process


async def stop(inside: Inside, grace: float = 5.0, process_id: str = "p") -> process_pb2.Process:
    request = process_pb2.StopProcessRequest(session_id=inside.session_id, process_id=process_id, grace=seconds(grace))
    process: process_pb2.Process = (await ask(inside.channel, request)).process
    return process


@asynccontextmanager
async def attached(
    inside: Inside, stdout_offset: int = 0, stderr_offset: int = 0, process_id: str = "p", hold: bool = False
) -> AsyncIterator[Attach]:
    call: Attach = inside.processes.AttachProcess()
    begin = process_pb2.AttachStart(
        session_id=inside.session_id,
        process_id=process_id,
        stdout_offset=stdout_offset,
        stderr_offset=stderr_offset,
        hold_output=hold,
    )
    await call.write(process_pb2.AttachProcessRequest(attach=begin))
    try:
        yield call
    finally:
        call.cancel()


async def next_of(call: Attach) -> process_pb2.AttachProcessResponse:
    with errors_by_meaning():
        frame = await call.read()
    assert isinstance(frame, process_pb2.AttachProcessResponse), frame
    return frame


async def until_out(call: Attach, text: bytes) -> process_pb2.AttachProcessResponse:
    said = b""
    while True:
        frame = await next_of(call)
        said += frame.stdout
        if text in said:
            return frame


async def until_exit(call: Attach) -> process_pb2.AttachProcessResponse:
    while (frame := await next_of(call)).WhichOneof("kind") != "exit":
        pass
    return frame


async def test_a_process_runs_on_when_its_caller_is_gone(inside: Inside, box: BoxProcess) -> None:
    mark = new_id("mark")
    async with dial(box) as other:
        started = await start(Inside(other, inside.session_id), f"echo up; while :; do sleep 0.05; done; : {mark}")
        assert (started.existed, started.process.state) == (False, RUNNING)
    async with attached(inside) as call:
        assert (await next_of(call)).attached.state == RUNNING
        await until_out(call, b"up\n")
    assert processes_with(mark)
    stopped = await stop(inside)
    assert (stopped.state, stopped.exit.status) == (EXITED, process_pb2.EXIT_STATUS_KILLED)
    assert stopped.exit.signal == 15
    assert processes_with(mark) == []


async def test_starting_again_returns_the_first_and_another_command_is_a_conflict(inside: Inside) -> None:
    await start(inside, "sleep 60")
    assert (await start(inside, "sleep 60")).existed
    with pytest.raises(Conflict):
        await start(inside, "sleep 61")
    assert [one.process_id for one in await listed(inside)] == ["p"]


async def listed(inside: Inside) -> list[process_pb2.Process]:
    answer = await ask(inside.channel, process_pb2.ListProcessesRequest(session_id=inside.session_id))
    return list(answer.processes)


async def test_several_run_side_by_side_and_are_listed_in_pages(inside: Inside) -> None:
    for number in range(5):
        await start(inside, f"sleep {60 + number}", f"p{number}")
    request = process_pb2.ListProcessesRequest(session_id=inside.session_id, page_size=3)
    first = await ask(inside.channel, request)
    request.page_token = first.next_page_token
    second = await ask(inside.channel, request)
    assert [one.process_id for one in (*first.processes, *second.processes)] == [f"p{number}" for number in range(5)]
    assert not second.next_page_token
    session = (await ask(inside.channel, session_pb2.GetSessionRequest(session_id=inside.session_id))).session
    assert session.running_count == 5


async def test_what_ignores_the_request_to_end_is_killed_after_the_grace_time(inside: Inside) -> None:
    mark = new_id("mark")
    deaf = "trap '' TERM; (sleep 600) & echo deaf; while :; do sleep 0.05; done"
    await start(inside, f"{deaf}; : {mark}")
    # Its command line is there before it has asked for anything: only what it prints says that the signal is ignored.
    while (await get(inside)).stdout_bytes < len("deaf\n"):  # noqa: ASYNC110 - the box does not tell when output comes
        await asyncio.sleep(0.01)
    stopped = await stop(inside, grace=0.3)
    assert (stopped.state, stopped.exit.signal) == (EXITED, 9)
    assert processes_with(mark) == []


async def test_several_attachments_get_everything_from_their_offset(inside: Inside) -> None:
    await start(inside, 'while read -r line; do echo "got $line"; echo e >&2; done')
    async with attached(inside) as one, attached(inside) as two:
        await one.write(process_pb2.AttachProcessRequest(stdin=b"first\n"))
        for call in (one, two):
            frame = await until_out(call, b"got first\n")
            assert frame.offset == 0
        assert (await get(inside)).attached_count == 2
        async with attached(inside, stdout_offset=4) as late:
            assert (await until_out(late, b"first\n")).offset == 4
        async with attached(inside, stdout_offset=-1, stderr_offset=-1) as live:
            await next_of(live)
            await two.write(process_pb2.AttachProcessRequest(stdin=b"second\n"))
            assert (await until_out(live, b"got second\n")).offset == len("got first\n")
        with pytest.raises(OutOfRange):
            async with attached(inside, stdout_offset=10_000) as beyond:
                await next_of(beyond)
        await one.write(process_pb2.AttachProcessRequest(close_stdin=process_pb2.CloseStdin()))
        for call in (one, two):
            assert (await until_exit(call)).exit.exit_code == 0


async def test_input_is_resumed_by_offset_and_taken_once(inside: Inside) -> None:
    await start(inside, "cat")
    async with attached(inside) as one:
        await one.write(process_pb2.AttachProcessRequest(stdin=b"abcdef", stdin_offset=0))
        assert (await until_out(one, b"abcdef")).stdin_taken == 6
    async with attached(inside) as again:
        await again.write(process_pb2.AttachProcessRequest(stdin=b"defghi", stdin_offset=3))
        assert (await until_out(again, b"abcdefghi")).stdin_taken == 9
        await again.write(process_pb2.AttachProcessRequest(stdin=b"zzz", stdin_offset=100))
        with pytest.raises(OutOfRange):
            while True:
                await next_of(again)


async def test_only_the_last_of_much_output_is_kept_and_the_gap_is_told(inside: Inside) -> None:
    await start(inside, "head -c 500000 /dev/zero | tr '\\0' x; echo END; sleep 60")
    async with attached(inside, stdout_offset=-1) as live:
        await next_of(live)
    while (await get(inside)).stdout_bytes < 500_004:
        pass
    async with attached(inside) as late:
        await next_of(late)
        gap = await next_of(late)
        assert gap.output_gap.missing_bytes == 500_004 - 65_536
        frame = await until_out(late, b"END\n")
        assert frame.offset + len(frame.stdout) == 500_004


async def test_one_who_does_not_read_holds_nobody_up(inside: Inside) -> None:
    await start(inside, "head -c 30000000 /dev/zero; echo END; sleep 60")
    async with attached(inside), attached(inside) as reading:
        frame = await until_out(reading, b"END\n")
    assert frame.offset + len(frame.stdout) == 30_000_004


async def test_one_who_holds_the_output_misses_nothing_and_holds_up_no_end(inside: Inside) -> None:
    await start(inside, "read word; head -c 8000000 /dev/zero | tr '\\0' x; echo END; sleep 60")
    async with attached(inside, hold=True) as call:
        await call.write(process_pb2.AttachProcessRequest(stdin=b"go\n"))
        got = 0
        while got < 8_000_004:
            frame = await next_of(call)
            assert frame.WhichOneof("kind") in ("attached", "stdout"), frame
            got += len(frame.stdout)
    await stop(inside)
    await start(inside, "yes", "q")
    async with attached(inside, process_id="q", hold=True) as silent:
        await next_of(silent)
        stopped = await stop(inside, process_id="q")
        assert stopped.state == EXITED


async def test_output_before_the_first_attachment_is_kept_where_the_start_asks_for_it(inside: Inside) -> None:
    await start(inside, "head -c 8000000 /dev/zero | tr '\\0' x; echo bad >&2; echo END", hold=True)
    while (await get(inside)).stdout_bytes < 65_536:
        pass
    async with attached(inside, hold=True) as call:
        said = b""
        while (frame := await next_of(call)).WhichOneof("kind") != "exit":
            assert not frame.HasField("output_gap"), frame
            assert frame.WhichOneof("kind") != "stdout" or frame.offset == len(said)
            said += frame.stdout
    assert said == b"x" * 8_000_000 + b"END\n"


async def test_what_is_held_for_the_first_attachment_flows_after_it_and_holds_up_no_stop(inside: Inside) -> None:
    await start(inside, "yes", hold=True)
    while (await get(inside)).stdout_bytes < 65_536:
        pass
    assert (await stop(inside)).state == EXITED
    await start(inside, "head -c 8000000 /dev/zero; sleep 60", "q", hold=True)
    async with attached(inside, process_id="q") as call:
        await next_of(call)
    while (await get(inside, "q")).stdout_bytes < 8_000_000:
        pass


async def test_a_process_that_failed_is_started_again_by_its_policy(inside: Inside) -> None:
    await start(inside, "echo x >> count; [ $(wc -l < count) -ge 3 ]", policy=ON_FAILURE)
    while (await get(inside)).state != EXITED:
        pass
    process = await get(inside)
    assert (process.exit.exit_code, process.restart_count) == (0, 2)
    assert await inside.read("count") == b"x\n" * 3


async def test_a_stopped_process_is_not_started_again(inside: Inside) -> None:
    mark = new_id("mark")
    await start(inside, f"sleep 600; : {mark}", policy=ALWAYS)
    await seen(mark)
    assert (await stop(inside)).state == EXITED
    await until_gone(mark)
    assert (await get(inside)).state == EXITED


async def test_processes_go_with_their_session(channel: PortwayChannel) -> None:
    session = await new_session(channel)
    mark = new_id("mark")
    await start(session, f"sleep 600; : {mark}", policy=ALWAYS)
    await seen(mark)
    await session.delete()
    assert processes_with(mark) == []
    again = await new_session(channel, session_id=session.session_id)
    assert await listed(again) == []
    await again.delete()


async def test_a_terminal_process_takes_keys_and_sizes(inside: Inside) -> None:
    request = process_pb2.StartProcessRequest(
        session_id=inside.session_id, process_id="p", command=command(shell="stty size; cat", terminal=(20, 70))
    )
    await ask(inside.channel, request)
    async with attached(inside) as call:
        await until_out(call, b"20 70")
        await call.write(process_pb2.AttachProcessRequest(stdin=b"keys\n"))
        await until_out(call, b"keys\r\nkeys")
        await call.write(process_pb2.AttachProcessRequest(stdin=b"\x03"))
        assert (await until_exit(call)).exit.signal == 2


async def test_nonsense_is_refused(inside: Inside) -> None:
    with pytest.raises(NotFound):
        await get(inside, "missing")
    with pytest.raises(NotFound):
        await stop(inside, process_id="missing")
    with pytest.raises(InvalidInput):
        await start(inside, "true", "bad id")
    with pytest.raises(InvalidInput):
        await start(inside, "")
    with pytest.raises(NotFound):
        await start(Inside(inside.channel, "nobody"), "true")
    await start(inside, "sleep 60")
    with pytest.raises(InvalidInput):
        await stop(inside, grace=1000.0)
    call: Attach = inside.processes.AttachProcess()
    await call.write(process_pb2.AttachProcessRequest(stdin=b"early"))
    with pytest.raises(InvalidInput) as caught:
        await next_of(call)
    assert caught.value.reason == Reason.UNEXPECTED_FRAME
    with pytest.raises(InvalidInput):
        async with attached(inside) as twice:
            await twice.write(process_pb2.AttachProcessRequest(signal=99))
            await until_exit(twice)


async def test_stopping_at_once_from_many_sides_is_one_stop(inside: Inside) -> None:
    await start(inside, "sleep 600")
    states = await asyncio.gather(*(stop(inside) for _ in range(5)))
    assert {process.state for process in states} == {EXITED}
