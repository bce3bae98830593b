"""A box that runs out of something itself: it says so, loses nothing, and is as before when there is room again."""

import asyncio
import os
from collections.abc import Iterator

import pytest

from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import PortwayError, Unavailable
from portway.rpc.ids import new_id
from portway.v1 import process_pb2
from tests.box.box_process import ROOT, UNPRIVILEGED, BoxProcess, box_process, why_not
from tests.box.inside import Inside, Result, command, dial, new_session
from tests.box.machine import leftovers
from tests.waiting import until

DESCRIPTORS = 200


@pytest.fixture(params=[ROOT, UNPRIVILEGED])
def narrow(request: pytest.FixtureRequest) -> Iterator[BoxProcess]:
    """A box that may open few files."""
    if reason := why_not(request.param):
        pytest.skip(reason)
    with box_process(request.param) as box:
        box.through = ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"]
        box.start()
        yield box


def _open_files(box: BoxProcess) -> int:
    return len(os.listdir(f"/proc/{box.pid}/fd"))


async def _fill(channel: PortwayChannel) -> list[Inside]:
    made: list[Inside] = []
    while len(made) < DESCRIPTORS:
        try:
            made.append(await new_session(channel))
        except Unavailable as full:
            assert "Too many open files" in str(full)
            return made
    raise AssertionError("there was room for every session")


async def test_a_box_without_descriptors_refuses_and_recovers(narrow: BoxProcess) -> None:
    async with dial(narrow) as channel:
        await (await new_session(channel)).delete()
        before = _open_files(narrow)
        made = await _fill(channel)
        assert len(made) >= 5
        ran = refused = 0
        for _ in range(3):
            for one in await asyncio.gather(*(session.sh("echo ran") for session in made), return_exceptions=True):
                if isinstance(one, Result):
                    assert (one.stdout, one.code) == ("ran\n", 0)
                    ran += 1
                else:
                    # Never an internal error, and never a command that was half begun and told as done.
                    assert isinstance(one, Unavailable), one
                    refused += 1
        assert ran > 0
        assert refused > 0
        await asyncio.gather(*(session.delete() for session in made[1:]))
        assert (await made[0].sh("echo again")).stdout == "again\n"
        await made[0].delete()
        assert not list((narrow.data / "sessions").iterdir())
        assert _open_files(narrow) <= before + 4
    assert narrow.stop() == 0
    assert leftovers(narrow) == []


async def test_what_is_kept_of_commands_with_request_ids_is_bounded(channel: PortwayChannel, box: BoxProcess) -> None:
    session = await new_session(channel)
    begun, file = _resident(box), box.data / "effects.jsonl"
    large = command(shell="head -c 60000 /dev/zero; head -c 60000 /dev/zero >&2")
    first = new_id("req")
    await session.run(large, request_id=first)
    for _ in range(15):
        await asyncio.gather(*(session.run(large, request_id=new_id("req")) for _ in range(16)))
    # 29 MB of output were given, and 16 MiB of it are kept.
    assert _resident(box) - begun < 60 * 1024 * 1024
    assert file.stat().st_size < 80 * 1024 * 1024
    again = await session.run(large, request_id=first)
    assert again.response.replayed
    assert again.exit.status == process_pb2.EXIT_STATUS_COMPLETED
    assert len(again.stdout) + again.response.stdout_truncated_bytes == 60_000
    await session.delete()


def _resident(box: BoxProcess) -> int:
    with open(f"/proc/{box.pid}/statm", encoding="ascii") as figures:
        return int(figures.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_many_signals_at_once_reach_their_command_and_hold_up_nobody_else(
    inside: Inside, channel: PortwayChannel
) -> None:
    noisy = await new_session(channel)
    call = noisy.processes.Exec()
    script = "trap '' USR1; echo up; while :; do sleep 1; done"
    start = process_pb2.ExecStart(session_id=noisy.session_id, command=command(shell=script))
    await call.write(process_pb2.ExecRequest(start=start))
    for _ in range(2):
        await call.read()

    async def flood() -> None:
        for _ in range(5000):
            await call.write(process_pb2.ExecRequest(signal=10))
            await call.write(process_pb2.ExecRequest(stdin=b""))

    flooding = asyncio.create_task(flood())
    results = [await inside.sh("echo fine") for _ in range(20)]
    flooding.cancel()
    await asyncio.gather(flooding, return_exceptions=True)
    call.cancel()
    await noisy.delete()
    assert [one.stdout for one in results] == ["fine\n"] * 20


async def test_streams_that_say_nothing_take_no_place_of_those_that_work(
    channel: PortwayChannel, box: BoxProcess
) -> None:
    before = _open_files(box)
    session = await new_session(channel)
    async with dial(box) as idle:
        calls = [Inside(idle, session.session_id).processes.Exec() for _ in range(800)]
        results = await asyncio.gather(*(session.sh("echo fine") for _ in range(20)))
        assert [one.stdout for one in results] == ["fine\n"] * 20
        for call in calls:
            call.cancel()
    assert (await session.sh("echo after")).stdout == "after\n"
    await session.delete()
    await until(lambda: _open_files(box) <= before + 4)


async def test_callers_that_leave_at_any_moment_leave_nothing(channel: PortwayChannel, box: BoxProcess) -> None:
    before = _open_files(box)
    session = await new_session(channel)

    async def leave(number: int) -> None:
        asking = asyncio.create_task(session.sh("head -c 100000 /dev/zero; sleep 5"))
        for _ in range(number):
            await asyncio.sleep(0)
        done, _pending = await asyncio.wait([asking], timeout=number / 2000)
        asking.cancel()
        assert not done
        await asyncio.gather(asking, return_exceptions=True)

    await asyncio.gather(*(leave(number) for number in range(60)))
    assert (await session.sh("ps ax 2>/dev/null | wc -l; echo after")).stdout.endswith("after\n")
    answer = await session.delete()
    assert answer.killed_process_count <= 60
    with pytest.raises(PortwayError):
        await session.sh("true")
    await until(lambda: _open_files(box) <= before + 4)
