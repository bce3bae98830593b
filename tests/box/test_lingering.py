"""Commands that outlive the loss of their stream: come back to by offset, taken over, given up, told after the end."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from portway.rpc.channel import PortwayChannel, open_channel
from portway.rpc.client_stream import send
from portway.rpc.errors import Conflict, InvalidInput, OutOfRange, PortwayError, Reason, Stale, Unavailable, WrongState
from portway.rpc.ids import new_id
from portway.rpc.status import errors_by_meaning
from portway.v1 import process_pb2
from tests.box.box_process import ROOT, UNPRIVILEGED, BoxProcess, box_process, why_not
from tests.box.inside import Exec, Inside, box_memory, command, dial, new_session, seconds
from tests.box.machine import processes_with, seen, until_gone
from tests.fakes.cutting_proxy import CuttingProxy, cutting_proxy

COMPLETED, KILLED = process_pb2.EXIT_STATUS_COMPLETED, process_pb2.EXIT_STATUS_KILLED
TIMED_OUT = process_pb2.EXIT_STATUS_TIMED_OUT
MEBI = 1024 * 1024
NUMBERS = "seq -f %011.0f {count}"


def numbered(count: int) -> bytes:
    return b"".join(b"%011d\n" % number for number in range(1, count + 1))


class Taker:
    """A client that remembers how far it has come, over as many streams as it takes."""

    def __init__(self, session: Inside, *, confirms: bool = True, request_id: str = "") -> None:
        self.session = session
        self.said = {"stdout": b"", "stderr": b""}
        self.missing = 0
        self.stdin_taken = 0
        self.exit: process_pb2.Exit | None = None
        self.request_id = request_id or new_id("eff")
        self._confirms = confirms
        self._call: Exec

    async def start(self, script: str, *, linger: float = 20.0, longest: float = 30.0, hold: bool = True) -> None:
        start = process_pb2.ExecStart(
            session_id=self.session.session_id,
            command=command(shell=script, timeout=longest),
            request_id=self.request_id,
            linger=seconds(linger),
            hold_output=hold,
        )
        await self.open(self.session, process_pb2.ExecRequest(start=start))

    async def resume(self, session: Inside | None = None) -> None:
        resume = process_pb2.ExecResume(
            session_id=self.session.session_id,
            request_id=self.request_id,
            stdout_offset=len(self.said["stdout"]) + self.missing,
            stderr_offset=len(self.said["stderr"]),
        )
        while True:
            try:
                return await self.open(session or self.session, process_pb2.ExecRequest(resume=resume))
            except Unavailable:
                # The new stream may have been put onto the connection that just broke.
                continue

    async def open(self, session: Inside, first: process_pb2.ExecRequest) -> None:
        self._call = session.processes.Exec()
        await self.send(first)
        frame = await self.read()
        assert frame.HasField("started"), frame

    async def send(self, frame: process_pb2.ExecRequest) -> None:
        """What the box answers to it, and to what it refuses, is read."""
        await send(self._call, frame)

    async def read(self) -> process_pb2.ExecResponse:
        with errors_by_meaning():
            frame = await self._call.read()
        assert isinstance(frame, process_pb2.ExecResponse), frame
        self.stdin_taken = frame.stdin_taken
        kind = frame.WhichOneof("kind")
        if kind in ("stdout", "stderr"):
            before = len(self.said[kind]) + (self.missing if kind == "stdout" else 0)
            assert frame.offset == before, (kind, frame.offset, before)
            self.said[kind] += getattr(frame, kind)
        elif kind == "truncated":
            assert frame.offset == len(self.said["stdout"]) + self.missing
            assert not frame.truncated.of_stderr
            self.missing += frame.truncated.missing_bytes
        elif kind == "exit":
            self.exit = frame.exit
        return frame

    async def take(self, upto: int | None = None) -> None:
        """Reads until there are so many bytes of output, or to the exit."""
        while self.exit is None and (upto is None or len(self.said["stdout"]) < upto):
            await self.read()
            if self._confirms and self.exit is None:
                taken = process_pb2.ExecTaken(
                    stdout_offset=len(self.said["stdout"]), stderr_offset=len(self.said["stderr"])
                )
                await self.send(process_pb2.ExecRequest(taken=taken))

    def hang_up(self) -> None:
        self._call.cancel()


@pytest.fixture
async def network(box: BoxProcess) -> AsyncIterator[tuple[CuttingProxy, PortwayChannel]]:
    """A way to the box that can be cut, and a channel over it."""
    with cutting_proxy(int(box.address.rpartition(":")[2])) as proxy:
        async with open_channel(f"127.0.0.1:{proxy.port}", token=box.tokens["admin"].text) as channel:
            yield proxy, channel


async def test_whoever_comes_back_gets_exactly_the_rest_however_often_the_network_breaks(
    inside: Inside, network: tuple[CuttingProxy, PortwayChannel]
) -> None:
    proxy, channel = network
    taker = Taker(Inside(channel, inside.session_id))
    await taker.start(f"{NUMBERS.format(count=400_000)}; seq 1 1000 >&2; exit 7")
    for upto in (100_000, 600_000, 2_000_000, 3_500_000):
        await taker.take(upto)
        proxy.cut()
        with pytest.raises((PortwayError, AssertionError)):
            while True:
                await taker.read()
        await taker.resume()
    await taker.take()
    assert taker.said["stdout"] == numbered(400_000)
    assert taker.said["stderr"] == b"".join(b"%d\n" % number for number in range(1, 1001))
    assert taker.missing == 0
    assert taker.exit is not None
    assert (taker.exit.status, taker.exit.exit_code) == (COMPLETED, 7)


async def test_a_stream_that_the_box_still_believes_in_is_superseded_and_what_it_swallowed_comes_again(
    inside: Inside, network: tuple[CuttingProxy, PortwayChannel]
) -> None:
    proxy, channel = network
    taker = Taker(Inside(channel, inside.session_id))
    await taker.start(NUMBERS.format(count=400_000))
    await taker.take(1_000_000)
    assert proxy.strand() > 0
    # Over a way of its own; the old one says nothing to either side.
    await taker.resume(inside)
    await taker.take()
    assert taker.missing == 0
    assert taker.said["stdout"] == numbered(400_000)


async def test_of_two_that_come_back_at_once_the_later_one_has_it_and_the_other_is_told(inside: Inside) -> None:
    first = Taker(inside)
    await first.start("while read -r line; do echo got $line; done")
    second, third = Taker(inside), Taker(inside)
    second.request_id = third.request_id = first.request_id
    await asyncio.gather(second.resume(), third.resume())
    lost = 0
    for taker in (first, second, third):
        try:
            await taker.send(process_pb2.ExecRequest(stdin=b"word\n"))
            await taker.take(len("got word\n"))
        except Stale as error:
            assert error.reason == Reason.STREAM_SUPERSEDED
            lost += 1
        else:
            assert taker.said["stdout"] == b"got word\n"
            await taker.send(process_pb2.ExecRequest(close_stdin=process_pb2.CloseStdin()))
            await taker.take()
    assert lost == 2


async def test_input_is_taken_once_over_broken_streams(
    inside: Inside, network: tuple[CuttingProxy, PortwayChannel]
) -> None:
    proxy, channel = network
    taker = Taker(Inside(channel, inside.session_id))
    data = numbered(500_000)
    # Slowly at first, so that frames are under way when the network breaks.
    await taker.start("sleep 0.5; cat | sha256sum; wc -c < /dev/null")
    for _ in range(4):
        with pytest.raises((PortwayError, AssertionError)):
            proxy_cut = False
            for begin in range(taker.stdin_taken, len(data), 300_000):
                frame = process_pb2.ExecRequest(stdin=data[begin : begin + 300_000], stdin_offset=begin)
                await taker.send(frame)
                if begin - taker.stdin_taken >= 600_000 and not proxy_cut:
                    proxy.cut()
                    proxy_cut = True
            proxy.cut()
            while True:
                await taker.read()
        await taker.resume()
    begin = taker.stdin_taken
    for place in range(begin, len(data), 1_000_000):
        frame = process_pb2.ExecRequest(stdin=data[place : place + 1_000_000], stdin_offset=place)
        await taker.send(frame)
    await taker.send(process_pb2.ExecRequest(close_stdin=process_pb2.CloseStdin()))
    await taker.take()
    assert taker.said["stdout"].split()[0] == hashlib.sha256(data).hexdigest().encode()


async def test_input_with_a_gap_is_refused(inside: Inside) -> None:
    taker = Taker(inside)
    await taker.start("cat")
    await taker.send(process_pb2.ExecRequest(stdin=b"x", stdin_offset=5))
    with pytest.raises(OutOfRange):
        await taker.take()


async def test_what_nobody_comes_back_to_is_killed_and_its_end_is_known(inside: Inside) -> None:
    mark = new_id("mark")
    taker = Taker(inside)
    await taker.start(f"echo before; (setsid sleep 600 &) ; sleep 600; : {mark}", linger=0.5)
    await taker.take(len("before\n"))
    taker.hang_up()
    await seen(mark)
    await until_gone(mark)
    await taker.resume()
    await taker.take()
    assert taker.exit is not None
    assert (taker.exit.status, taker.exit.signal) == (KILLED, 9)
    assert taker.said["stdout"] == b"before\n"


async def test_one_who_was_away_at_the_end_learns_it_with_the_output(inside: Inside) -> None:
    taker = Taker(inside)
    await taker.start("echo one; while [ ! -e go ]; do sleep 0.01; done; echo two; echo bad >&2; exit 3")
    await taker.take(len("one\n"))
    taker.hang_up()
    await inside.write("go", b"")
    await asyncio.gather(inside.sh("while pgrep -f 'while [ !' ; do sleep 0.01; done"))
    await taker.resume()
    await taker.take()
    assert taker.said == {"stdout": b"one\ntwo\n", "stderr": b"bad\n"}
    assert taker.exit is not None
    assert (taker.exit.status, taker.exit.exit_code) == (COMPLETED, 3)
    # And again, as often as it asks.
    again = Taker(inside)
    again.request_id = taker.request_id
    await again.resume()
    await again.take()
    assert (again.said["stdout"], again.exit) == (b"one\ntwo\n", taker.exit)


async def test_the_end_is_still_known_when_the_output_is_kept_no_longer(inside: Inside) -> None:
    taker = Taker(inside)
    await taker.start("echo short; exit 5", linger=0.05)
    await taker.take()
    for _ in range(20):
        again = Taker(inside, confirms=False)
        again.request_id = taker.request_id
        again.said["stdout"] = b"sho"
        await again.resume()
        await again.take()
        assert again.said["stdout"] == b"short\n"
        assert again.exit is not None
        assert again.exit.exit_code == 5
        await asyncio.sleep(0.01)


async def test_the_same_start_again_comes_back_too_and_another_one_is_a_conflict(inside: Inside) -> None:
    taker = Taker(inside)
    await taker.start("echo begun >> count; echo said; read word; echo $word")
    await taker.take(len("said\n"))
    again = Taker(inside)
    again.request_id = taker.request_id
    await again.start("echo begun >> count; echo said; read word; echo $word")
    await again.send(process_pb2.ExecRequest(stdin=b"hello\n"))
    await again.take()
    assert again.said["stdout"] == b"said\nhello\n"
    assert await inside.read("count") == b"begun\n"
    other = Taker(inside)
    other.request_id = taker.request_id
    with pytest.raises(Conflict):
        await other.start("echo another")


async def test_without_holding_the_last_megabyte_is_kept_and_the_gap_told(inside: Inside) -> None:
    taker = Taker(inside, confirms=False)
    await taker.start(f"{NUMBERS.format(count=400_000)}; sleep 20", hold=False)
    await taker.take(12 * 400_000)
    taker.hang_up()
    late = Taker(inside, confirms=False)
    late.request_id = taker.request_id
    await late.resume()
    await late.take(MEBI)
    assert late.missing == 12 * 400_000 - len(late.said["stdout"])
    assert late.said["stdout"] == numbered(400_000)[-len(late.said["stdout"]) :]
    late.hang_up()


async def test_one_who_does_not_read_or_confirm_holds_it_up_and_the_box_stays_small(inside: Inside) -> None:
    before = await box_memory(inside.channel)
    silent, slow = Taker(inside, confirms=False), Taker(inside, confirms=False)
    await silent.start("head -c 200000000 /dev/zero; sleep 20")
    await slow.start("head -c 200000000 /dev/zero; sleep 20", hold=False)
    await silent.take(MEBI // 2)
    for _ in range(20):
        assert await box_memory(inside.channel) < before + 48 * MEBI
    silent.hang_up()
    await silent.resume()
    await silent.take(MEBI)
    assert silent.missing == 0
    slow.hang_up()
    silent.hang_up()


async def test_only_the_workspace_and_the_role_that_began_it_come_back(inside: Inside, box: BoxProcess) -> None:
    taker = Taker(inside)
    await taker.start("sleep 20")
    answers = []
    for role in ("service", "foreign", "admin"):
        async with dial(box, role) as channel:
            other = Taker(inside)
            other.request_id = taker.request_id if role != "admin" else "missing"
            with pytest.raises(WrongState) as caught:
                await other.resume(Inside(channel, inside.session_id))
            answers.append((caught.value.reason, caught.value.message.replace(other.request_id, "ID")))
    assert {reason for reason, _message in answers} == {Reason.EFFECT_UNKNOWN}
    assert len({message for _reason, message in answers[1:]}) == 1


async def test_what_is_kept_for_an_hour_is_told_only_to_the_role_that_began_it(inside: Inside, box: BoxProcess) -> None:
    taker = Taker(inside, confirms=False)
    await taker.start("echo mine", linger=0)
    await taker.take()
    again = Taker(inside, confirms=False, request_id=taker.request_id)
    await again.resume()
    await again.take()
    assert again.said["stdout"] == taker.said["stdout"] == b"mine\n"
    async with dial(box, "service") as channel:
        other = Inside(channel, inside.session_id)
        with pytest.raises(WrongState) as caught:
            await Taker(inside, request_id=taker.request_id).resume(other)
        assert caught.value.reason == Reason.EFFECT_UNKNOWN
        with pytest.raises(Conflict):
            await Taker(other, request_id=taker.request_id).start("echo mine")


async def test_its_time_goes_on_while_nobody_is_there(inside: Inside) -> None:
    mark = new_id("mark")
    taker = Taker(inside)
    await taker.start(f"echo up; sleep 600; : {mark}", longest=1.0)
    await taker.take(len("up\n"))
    taker.hang_up()
    await until_gone(mark)
    await taker.resume()
    await taker.take()
    assert taker.exit is not None
    assert taker.exit.status == TIMED_OUT


async def test_a_command_whose_session_is_deleted_is_told_as_killed(channel: PortwayChannel) -> None:
    session = await new_session(channel)
    taker = Taker(session)
    await taker.start("echo up; sleep 600")
    await taker.take(len("up\n"))
    await session.delete()
    await taker.take()
    assert taker.exit is not None
    assert taker.exit.status == KILLED
    again = await new_session(channel, session_id=session.session_id)
    # Its end is known by its id; nothing of it runs in the new session.
    late = Taker(again)
    late.request_id = taker.request_id
    await late.resume()
    await late.take()
    assert late.exit is not None
    assert late.exit.status == KILLED
    await again.delete()


async def test_nonsense_is_refused(inside: Inside) -> None:
    taker = Taker(inside)
    with pytest.raises(InvalidInput, match="linger"):
        await taker.start("true", linger=601)
    taker.request_id = ""
    with pytest.raises(InvalidInput, match="request_id"):
        await taker.start("true")
    beyond = Taker(inside)
    await beyond.start("sleep 20")
    beyond.said["stdout"] = b"x" * 10
    with pytest.raises(OutOfRange):
        await beyond.resume()
    for frame in (
        process_pb2.ExecRequest(taken=process_pb2.ExecTaken(stdout_offset=1)),
        process_pb2.ExecRequest(resume=process_pb2.ExecResume(session_id=inside.session_id, request_id="x")),
        process_pb2.ExecRequest(start=process_pb2.ExecStart(session_id=inside.session_id)),
        process_pb2.ExecRequest(),
    ):
        wrong = Taker(inside)
        await wrong.start("sleep 20")
        await wrong.send(frame)
        with pytest.raises((InvalidInput, OutOfRange)):
            await wrong.take()


async def test_a_command_that_cannot_begin_leaves_nothing_behind(inside: Inside) -> None:
    taker = Taker(inside)
    start = process_pb2.ExecStart(
        session_id=inside.session_id,
        command=command(shell="echo fine", cwd="/workspace/later"),
        request_id=taker.request_id,
        linger=seconds(20),
    )
    with pytest.raises(InvalidInput):
        await taker.open(inside, process_pb2.ExecRequest(start=start))
        await taker.take()
    await inside.sh("mkdir later")
    again = Taker(inside)
    await again.open(inside, process_pb2.ExecRequest(start=start))
    await again.take()
    assert again.said["stdout"] == b"fine\n"


@pytest.mark.parametrize("mode", [ROOT, UNPRIVILEGED])
async def test_after_a_crash_of_the_box_it_is_unknown_and_never_run_again(mode: str) -> None:
    if reason := why_not(mode):
        pytest.skip(reason)
    mark = new_id("mark")
    with box_process(mode) as box:
        box.start()
        async with dial(box) as channel:
            taker = Taker(await new_session(channel, persistent=True))
            await taker.start(f"echo up; sleep 600; : {mark}")
            await taker.take(len("up\n"))
            box.kill()
            await until_gone(mark)
        box.start()
        async with dial(box) as channel:
            with pytest.raises(WrongState) as caught:
                await taker.resume(Inside(channel, taker.session.session_id))
            assert caught.value.reason == Reason.EFFECT_UNKNOWN
        assert processes_with(mark) == []
