"""The box killed in the middle of everything at once: sessions made, used and deleted, commands and processes running.

Afterwards nothing is left, what was acknowledged is there, what was lost was never told as done, and all of it without
a person. `make test-heavy` tries many more moments than `make test`.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import PortwayError
from portway.rpc.ids import new_id
from portway.v1 import box_pb2, process_pb2, session_pb2
from tests.asking import ask
from tests.box.box_process import ROOT, UNPRIVILEGED, BoxProcess, box_process, why_not
from tests.box.inside import Inside, command, dial, new_session
from tests.box.machine import kill_all, leftovers, processes_with, until_gone, until_nothing_is_left

HOW = ("box", "both", "launcher first", "stopped", "again in its sweep")
BACK_WITHIN_SECONDS = 60.0


@pytest.fixture(params=[ROOT, UNPRIVILEGED])
def mortal(request: pytest.FixtureRequest) -> Iterator[BoxProcess]:
    if reason := why_not(request.param):
        pytest.skip(reason)
    with box_process(request.param) as box:
        box.start()
        yield box


@dataclass
class Told:
    """What callers were told before the box was gone."""

    kept: dict[str, bytes] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    ran: int = 0
    lost: int = 0


async def use(channel: PortwayChannel, mark: str, told: Told) -> None:
    """Eight sessions in use and three that come and go, until the box is gone."""

    async def keep(number: int) -> None:
        session = await new_session(channel, persistent=True)
        content = f"{number}-{mark}".encode()
        await session.write("file", content)
        told.kept[session.session_id] = content
        process = command(shell=f"setsid sleep 600 & sleep 600; : {mark}")
        request = process_pb2.StartProcessRequest(
            session_id=session.session_id, process_id="p", command=process, restart_policy=_POLICIES[number % 2]
        )
        await ask(channel, request)
        await stay(session)

    async def stay(session: Inside) -> None:
        while True:
            result = await session.sh("echo ran")
            assert (result.stdout, result.code) == ("ran\n", 0)
            told.ran += 1
            long = await session.sh(f"sleep 600; : {mark}", timeout=600.0)
            raise AssertionError(f"a command that was lost was told as done: {long}")

    async def come_and_go(number: int) -> None:
        while True:
            session = await new_session(channel, persistent=number % 2 == 0)
            await session.write("file", b"passing")
            await session.delete()
            told.deleted.add(session.session_id)

    async def until_lost(work: object) -> None:
        try:
            await work  # type: ignore[misc]
        except PortwayError:
            told.lost += 1

    passing = [until_lost(stay(await new_session(channel)))]
    await asyncio.gather(
        *(until_lost(keep(number)) for number in range(5)), *(until_lost(come_and_go(n)) for n in range(3)), *passing
    )


_POLICIES = (process_pb2.RESTART_POLICY_NEVER, process_pb2.RESTART_POLICY_ALWAYS)


def end(box: BoxProcess, how: str) -> None:
    """Kills it. What its launcher does by itself afterwards is not waited for."""
    launcher = box.launcher_pids()
    if how == "both":
        kill_all([box.pid, *launcher])
    elif how == "launcher first":
        kill_all(launcher)
    elif how == "stopped":
        os.kill(box.pid, signal.SIGSTOP)
    box.kill()


async def one_round(box: BoxProcess, how: str, delay: float) -> Told:
    mark, told = new_id("mark"), Told()
    async with dial(box) as channel:
        using = asyncio.create_task(use(channel, mark, told))
        # The moment is what is tried here.
        await asyncio.wait([using], timeout=delay)
        end(box, how)
        await asyncio.gather(using, return_exceptions=True)
    if not isinstance(using.exception(), PortwayError | None):
        raise AssertionError("a caller was told something wrong") from using.exception()
    if how == "again in its sweep":
        box.spawn()
        await asyncio.wait([asyncio.create_task(asyncio.sleep(delay))])
        box.kill()
    await until_gone(mark)
    if how in ("box", "stopped"):
        await until_nothing_is_left(box)
    began = time.monotonic()
    box.start()
    assert time.monotonic() - began < BACK_WITHIN_SECONDS
    await _check(box, mark, told)
    return told


async def _check(box: BoxProcess, mark: str, told: Told) -> None:
    async with dial(box) as channel:
        assert (await ask(channel, box_pb2.GetBoxStatusRequest())).available
        answer = await ask(channel, session_pb2.ListSessionsRequest(page_size=200))
        back = {session.session_id for session in answer.sessions}
        assert told.kept.keys() <= back
        assert not told.deleted & back
        for name in back:
            session = Inside(channel, name)
            if name in told.kept:
                assert await session.read("file") == told.kept[name]
            assert (await session.sh("echo alive")).stdout == "alive\n"
            await session.delete()
        assert not [path for path in (box.data / "sessions").iterdir() if path.is_dir()]
    await until_gone(mark)


@pytest.mark.parametrize("how", HOW)
async def test_a_kill_in_the_middle_of_everything_leaves_nothing_and_loses_nothing(
    mortal: BoxProcess, how: str
) -> None:
    ran = 0
    for delay in (random.uniform(0, 0.05), random.uniform(0.4, 0.8)):
        ran += (await one_round(mortal, how, delay)).ran
    assert ran > 0
    assert mortal.stop() == 0
    assert leftovers(mortal) == []


@pytest.mark.heavy
async def test_kills_at_random_moments_leave_nothing_and_lose_nothing(mortal: BoxProcess) -> None:
    ran = kept = 0
    for _ in range(40):
        told = await one_round(mortal, random.choice(HOW), random.choice((0.05, 0.2, 1.0)) * random.random())
        ran, kept = ran + told.ran, kept + len(told.kept)
    # Not everything merely failed; how much is in time for a kill depends on the machine.
    assert ran > 10
    assert kept > 10
    assert mortal.stop() == 0
    assert leftovers(mortal) == []


@pytest.mark.parametrize("stage", ["before the start", "after the start", "in its output", "in its input"])
async def test_a_caller_gone_at_any_stage_of_a_command_leaves_nothing(
    channel: PortwayChannel, box: BoxProcess, stage: str
) -> None:
    session = await new_session(channel)
    mark = new_id("mark")
    async with dial(box) as leaving:
        calls = [Inside(leaving, session.session_id).processes.Exec() for _ in range(6)]
        if stage != "before the start":
            script = f"yes {mark}" if stage == "in its output" else f"sleep 600; : {mark}"
            start = process_pb2.ExecStart(session_id=session.session_id, command=command(shell=script))
            for call in calls:
                await call.write(process_pb2.ExecRequest(start=start))
                await call.read()
                if stage == "in its output":
                    await call.read()
                if stage == "in its input":
                    await call.write(process_pb2.ExecRequest(stdin=b"x" * 60_000))
            assert processes_with(mark)
    await until_gone(mark)
    assert (await session.sh("echo fine")).stdout == "fine\n"
    await session.delete()
