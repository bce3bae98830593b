"""Managed processes over time: started again and again, stopped in between, fed from several sides, and how many."""

import asyncio
import hashlib
from contextlib import suppress

import grpc
import pytest

from portway.rpc.channel import open_channel
from portway.rpc.client_stream import send
from portway.rpc.errors import LimitExceeded, Unavailable
from portway.rpc.ids import new_id
from portway.v1 import process_pb2, session_pb2
from tests.asking import ask
from tests.box.box_process import BoxProcess
from tests.box.inside import Inside, command
from tests.box.machine import processes_with, seen, until_gone
from tests.box.test_processes import (
    ALWAYS,
    EXITED,
    ON_FAILURE,
    attached,
    get,
    next_of,
    start,
    stop,
    until_exit,
    until_out,
)
from tests.fakes.cutting_proxy import CuttingProxy, cutting_proxy
from tests.waiting import until_told

RESTARTING = process_pb2.PROCESS_STATE_RESTARTING


async def test_pauses_between_restarts_grow(inside: Inside) -> None:
    await start(inside, "date +%s%N >> log; exit 1", policy=ON_FAILURE)

    async def often() -> bool:
        return (await inside.sh("[ $(wc -l < log) -ge 4 ]")).code == 0

    await until_told(often)
    await stop(inside)
    times = [int(line) / 1e9 for line in (await inside.read("log")).split()]
    pauses = [after - before for before, after in zip(times, times[1:], strict=False)]
    assert pauses[0] >= 0.5
    assert pauses[1] >= 1.0
    assert pauses[2] >= 2.0


async def test_one_that_waits_to_be_started_again_is_stopped_at_once(inside: Inside) -> None:
    mark = new_id("mark")
    await start(inside, f"echo ran >> count; exit 3; : {mark}", policy=ALWAYS)

    async def waits() -> bool:
        return (await get(inside)).state == RESTARTING

    await until_told(waits)
    stopped = await stop(inside, grace=30.0)
    assert (stopped.state, stopped.exit.exit_code) == (EXITED, 3)
    count = await inside.read("count")
    # Had it not been stopped, it would begin within the time that these take.
    await start(inside, "sleep 1.5", "other")
    async with attached(inside, process_id="other") as call:
        await until_exit(call)
    assert await inside.read("count") == count
    assert processes_with(mark) == []


async def test_a_process_that_could_not_begin_again_goes_on_trying_and_can_be_stopped(inside: Inside) -> None:
    await inside.sh("mkdir place")
    request = process_pb2.StartProcessRequest(
        session_id=inside.session_id,
        process_id="p",
        command=command(shell="rmdir /workspace/place; exit 1", cwd="/workspace/place"),
        restart_policy=ON_FAILURE,
    )
    await ask(inside.channel, request)

    async def tried() -> bool:
        return (await get(inside)).restart_count >= 2

    await until_told(tried)
    assert (await stop(inside)).state in (EXITED, process_pb2.PROCESS_STATE_LOST)
    assert (await inside.sh("echo fine")).stdout == "fine\n"


async def test_a_session_has_so_many_processes_and_ended_ones_make_room(inside: Inside) -> None:
    await asyncio.gather(*(start(inside, "sleep 600", f"p{number}") for number in range(64)))
    with pytest.raises(LimitExceeded, match="64 processes"):
        await start(inside, "sleep 600", "one-more")
    session = (await ask(inside.channel, session_pb2.GetSessionRequest(session_id=inside.session_id))).session
    assert session.running_count == 64
    await stop(inside, process_id="p7")
    await start(inside, "sleep 600", "one-more")
    request = process_pb2.ListProcessesRequest(session_id=inside.session_id, page_size=200)
    assert len((await ask(inside.channel, request)).processes) == 64


async def test_frames_from_two_attachments_are_not_torn(inside: Inside) -> None:
    await start(inside, "cat > all; sha256sum all")
    async with attached(inside) as one, attached(inside) as two:

        async def feed(call: object, letter: bytes) -> None:
            for _ in range(50):
                await send(call, process_pb2.AttachProcessRequest(stdin=letter * 99_999 + b"\n"))

        await asyncio.gather(feed(one, b"a"), feed(two, b"b"))

        async def taken() -> bool:
            return (await inside.sh("stat -c %s all")).stdout == f"{100 * 100_000}\n"

        await until_told(taken)
        await one.write(process_pb2.AttachProcessRequest(close_stdin=process_pb2.CloseStdin()))
        await until_exit(two)
    lines = (await inside.read("all")).split(b"\n")
    assert sorted(lines) == [b"", *[b"a" * 99_999] * 50, *[b"b" * 99_999] * 50]


async def _feed_until_cut(inside: Inside, data: bytes, proxy: CuttingProxy) -> None:
    async with attached(inside) as call:
        taken = (await next_of(call)).stdin_taken
        for begin in range(taken, min(taken + 600_000, len(data)), 300_000):
            await send(call, process_pb2.AttachProcessRequest(stdin=data[begin : begin + 300_000], stdin_offset=begin))
        proxy.cut()


async def test_input_that_breaks_off_amid_a_frame_is_resumed_exactly(inside: Inside, box: BoxProcess) -> None:
    await start(inside, "sleep 0.5; sha256sum")
    data = b"".join(b"%011d\n" % number for number in range(400_000))
    with cutting_proxy(int(box.address.rpartition(":")[2])) as proxy:
        async with open_channel(f"127.0.0.1:{proxy.port}", token=box.tokens["admin"].text) as channel:
            for _ in range(3):
                with suppress(Unavailable, grpc.aio.AioRpcError):
                    await _feed_until_cut(Inside(channel, inside.session_id), data, proxy)
    async with attached(inside) as call:
        taken = (await next_of(call)).stdin_taken
        for begin in range(taken, len(data), 1_000_000):
            await call.write(
                process_pb2.AttachProcessRequest(stdin=data[begin : begin + 1_000_000], stdin_offset=begin)
            )
        await call.write(process_pb2.AttachProcessRequest(close_stdin=process_pb2.CloseStdin()))
        await until_out(call, hashlib.sha256(data).hexdigest().encode())


async def test_a_terminal_follows_the_size_of_whoever_is_attached(inside: Inside) -> None:
    script = "trap 'stty size' WINCH; echo up; while :; do sleep 0.05; done"
    request = process_pb2.StartProcessRequest(
        session_id=inside.session_id, process_id="p", command=command(shell=script, terminal=(20, 70))
    )
    await ask(inside.channel, request)
    async with attached(inside) as one, attached(inside) as two:
        await until_out(one, b"up")
        await one.write(process_pb2.AttachProcessRequest(resize=process_pb2.TerminalSize(rows=31, columns=91)))
        await until_out(two, b"31 91")
        await two.write(process_pb2.AttachProcessRequest(resize=process_pb2.TerminalSize(rows=32, columns=92)))
        await until_out(one, b"32 92")


async def test_a_stop_reaches_what_left_the_group_and_ignores_signals(inside: Inside) -> None:
    mark = new_id("mark")
    deaf = f"trap '' TERM HUP INT; while :; do sleep 0.05; done; : {mark}"
    await start(inside, f'(setsid sh -c "{deaf}" &); (setsid setsid sh -c "{deaf}" &); sleep 600')
    await seen(mark, 2)
    stopped = await stop(inside, grace=10.0)
    assert (stopped.state, stopped.exit.signal) == (EXITED, 15)
    await until_gone(mark)
