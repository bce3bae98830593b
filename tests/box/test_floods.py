"""Too much of everything: it costs the session that does it, and the box goes on."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import LimitExceeded
from portway.rpc.ids import new_id
from portway.v1 import box_pb2, process_pb2, session_pb2
from tests.asking import ask
from tests.box.box_process import BoxProcess
from tests.box.inside import Inside, begin, box_memory, command, enforces, new_session, next_frame, until_said
from tests.box.machine import processes_with, seen, until_gone
from tests.box.programs import FORK_UNTIL_REFUSED, HOLD_ALL_TERMINALS

MEBI = 1024 * 1024
SMALL = session_pb2.SessionLimits(memory_bytes=128 * MEBI, pids=40, disk_bytes=16 * MEBI, cpu_millis=4000)


@pytest.fixture
async def small(channel: PortwayChannel) -> AsyncIterator[Inside]:
    session = await new_session(channel, limits=SMALL)
    yield session
    await session.delete()


async def test_memory_is_bounded(small: Inside, box: BoxProcess) -> None:
    result = await small.python(
        "print('begun', flush=True)\nblocks = [bytearray(16 << 20) for _ in range(64)]\nprint('OPEN')"
    )
    assert result.stdout.startswith("begun")
    assert "OPEN" not in result.stdout
    if await enforces(small.channel, "memory"):
        assert result.exit.status == process_pb2.EXIT_STATUS_OUT_OF_MEMORY
        assert result.exit.peak_memory_bytes <= 130 * MEBI
    assert (await small.sh("echo still")).stdout == "still\n"


async def test_memory_of_all_processes_together_is_bounded(small: Inside, box: BoxProcess) -> None:
    if not await enforces(small.channel, "memory"):
        pytest.skip("this box bounds the memory of each process alone, and says so in its status")
    one = "blocks = [bytearray(8 << 20) for _ in range(6)]; import time; time.sleep(5)"
    result = await small.attempt(f"for each in 1 2 3 4 5 6 7 8; do /usr/bin/python3 -c '{one}' & done; wait; exit 1")
    assert result.exit.status == process_pb2.EXIT_STATUS_OUT_OF_MEMORY


async def test_files_in_memory_count_asbox_memory(small: Inside, box: BoxProcess) -> None:
    result = await small.attempt(
        "head -c 300M /dev/zero > /tmp/a 2>/dev/null; head -c 300M /dev/zero > /dev/shm/b 2>/dev/null; "
        "stat -c %s /tmp/a /dev/shm/b"
    )
    assert all(int(size) <= 64 * MEBI for size in result.stdout.split()), result


_DATAGRAMS = """
import socket
kept, sent, held = [], 0, 0
while sent < 200 << 20:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    one.bind(("127.0.0.1", 0))
    one.connect(one.getsockname())
    one.setblocking(False)
    kept.append(one)
    for _ in range(100):
        try:
            sent += one.send(bytes(60_000))
        except BlockingIOError:
            break
for one in kept:
    try:
        while True:
            held += len(one.recv(65_536))
    except BlockingIOError:
        pass
print(sent >> 20, held >> 20)
"""


async def test_what_sockets_hold_is_bounded(small: Inside) -> None:
    if not await enforces(small.channel, "memory"):
        pytest.skip("this box bounds the memory of each process alone, and says so in its status")
    result = await small.python(_DATAGRAMS)
    if result.exit.status == process_pb2.EXIT_STATUS_OUT_OF_MEMORY:
        return  # where they count as memory
    sent, held = (int(word) for word in result.stdout.split())
    assert sent >= 200 and 0 < held < 64, result


async def test_a_fork_bomb_ends_with_its_command(small: Inside) -> None:
    mark = new_id("mark")
    result = await small.attempt(f": {mark}; bomb() {{ bomb | bomb & }}; bomb; sleep 30", timeout=2.0)
    # The shell that lit it may itself find no room for its last command: then it ends before its time is over.
    starved = result.exit.status == process_pb2.EXIT_STATUS_COMPLETED and "Cannot fork" in result.stderr
    assert starved or result.exit.status == process_pb2.EXIT_STATUS_TIMED_OUT, result
    await until_gone(mark)
    assert (await small.sh("echo still")).stdout == "still\n"


async def test_the_number_of_processes_is_bounded(small: Inside) -> None:
    result = await small.python(FORK_UNTIL_REFUSED)
    assert result.stdout.split()[:2] == ["refused", "11"], result
    exact = await enforces(small.channel, "pids")
    assert int(result.stdout.split()[2]) <= (42 if exact else 40 + 32)


@pytest.mark.parametrize("place", ["/workspace", "/tmp", "/dev/shm"])
async def test_a_disk_is_full_when_the_session_filled_it(small: Inside, box: BoxProcess, place: str) -> None:
    before = os.statvfs(box.folder).f_bavail
    result = await small.attempt(f"head -c 400M /dev/zero > {place}/flood; stat -c %s {place}/flood")
    assert int(result.stdout) <= 64 * MEBI
    assert os.statvfs(box.folder).f_bavail > before - 100 * MEBI // os.statvfs(box.folder).f_frsize


@pytest.mark.parametrize("place", ["/workspace", "/tmp"])
async def test_the_number_of_files_is_bounded(small: Inside, place: str) -> None:
    result = await small.python(
        f"import os\nos.makedirs('{place}/many'); count = 0\n"
        "try:\n    while count < 200000:\n"
        f"        os.close(os.open(f'{place}/many/{{count}}', os.O_CREAT | os.O_WRONLY)); count += 1\n"
        "except OSError as error: print('refused', error.errno)\nprint(count)"
    )
    assert result.stdout.split()[:2] == ["refused", "28"], result


async def test_a_full_workspace_is_told_and_can_be_emptied(small: Inside) -> None:
    await small.attempt("head -c 400M /dev/zero > flood 2>/dev/null; true")
    with pytest.raises(LimitExceeded, match="full"):
        await small.write("late.bin", b"x" * MEBI)
    await small.sh("rm flood")
    assert (await small.write("late.bin", b"x" * MEBI)).file.size == MEBI


async def test_open_files_are_bounded(small: Inside) -> None:
    result = await small.python(
        "import os\ncount = 0\ntry:\n    while count < 100000: os.dup(0); count += 1\n"
        "except OSError as error: print(error.errno)\nprint(count)"
    )
    number, count = result.stdout.split()
    assert number == "24"
    assert int(count) <= 4096


async def test_processor_time_is_shared_out(channel: PortwayChannel, box: BoxProcess) -> None:
    if not await enforces(channel, "cpu"):
        pytest.skip("this box cannot bound processor time, and says so in its status")
    slow = await new_session(channel, limits=session_pb2.SessionLimits(cpu_millis=200))
    spin = "for each in 1 2 3 4; do (while :; do :; done) & done; wait"
    result = await slow.attempt(spin, timeout=2.0)
    assert result.exit.status == process_pb2.EXIT_STATUS_TIMED_OUT
    used = result.exit.cpu_time.ToMilliseconds() / result.exit.duration.ToMilliseconds()
    assert used < 0.35, result
    await slow.delete()


async def test_output_without_end_is_held_up_and_not_kept(small: Inside, channel: PortwayChannel) -> None:
    before = await box_memory(channel)
    result = await small.run(command(shell="yes | head -c 300000000"), output_limit=4000)
    assert len(result.stdout) == 4000
    assert result.response.stdout_truncated_bytes == 300_000_000 - 4000
    mark = new_id("mark")
    call = await begin(small, f"yes {mark}")
    assert (await next_frame(call)).HasField("started")
    await seen(mark)
    # Nobody reads: the program stands still instead of the box filling up.
    assert await box_memory(channel) < before + 64 * MEBI
    call.cancel()
    await until_gone(mark)


async def test_input_that_nobody_reads_is_held_up(small: Inside, channel: PortwayChannel) -> None:
    mark = new_id("mark")
    before = await box_memory(channel)
    call = await begin(small, f"sleep 60; : {mark}")
    await seen(mark)

    async def flood() -> None:
        for _ in range(1000):
            await call.write(process_pb2.ExecRequest(stdin=b"x" * MEBI))

    flooding = asyncio.create_task(flood())
    done, _pending = await asyncio.wait([flooding], timeout=1.0)
    assert not done
    assert await box_memory(channel) < before + 64 * MEBI
    flooding.cancel()
    call.cancel()
    await until_gone(mark)


async def test_commands_beyond_the_places_wait_and_beyond_the_queue_are_refused(channel: PortwayChannel) -> None:
    session = await new_session(channel, limits=session_pb2.SessionLimits(concurrent_commands=2))
    results = await asyncio.gather(*(session.sh("sleep 0.1") for _ in range(80)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, LimitExceeded)]
    assert 10 <= len(refused) <= 20
    assert all(error.retry_after for error in refused)
    assert all(not isinstance(result, BaseException) or result in refused for result in results)
    await session.delete()


async def test_sessions_are_bounded_by_workspace(channel: PortwayChannel) -> None:
    made: list[Inside] = []
    try:
        with pytest.raises(LimitExceeded, match="already has"):
            for _ in range(200):
                made.append(await new_session(channel, limits=SMALL))
    finally:
        await asyncio.gather(*(session.delete() for session in made))
    assert len(made) >= 100
    assert (await ask(channel, box_pb2.GetBoxStatusRequest())).available


async def test_terminals_and_watches_of_one_session_leave_some_for_others(small: Inside, inside: Inside) -> None:
    mark = new_id("mark")
    call = await begin(small, f"exec /usr/bin/python3 -c '{HOLD_ALL_TERMINALS}' {mark}")
    await until_said(call, b"full\n")
    result = await inside.attempt("tty; echo fine", terminal=(24, 80))
    assert "fine" in result.stdout
    call.cancel()
    await until_gone(mark)
    assert processes_with(mark) == []


async def test_shared_memory_of_a_process_is_bounded_too(small: Inside) -> None:
    result = await small.python(
        "import mmap\nprint('begun', flush=True)\nheld = []\nfor _ in range(48):\n"
        "    held.append(mmap.mmap(-1, 32 << 20)); held[-1].write(b'x' * (32 << 20))\nprint('OPEN')"
    )
    assert result.stdout.startswith("begun")
    assert "OPEN" not in result.stdout
