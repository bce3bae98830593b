"""What programs and owners of sockets do wrong on purpose: floods, stalls, nonsense. It costs them, and nobody else."""

import asyncio
import os

from portway.rpc.channel import PortwayChannel
from portway.v1 import process_pb2
from portway.v1 import socket_pb2 as pb
from tests.asking import ask
from tests.box.box_process import BoxProcess
from tests.box.inside import Inside, begin, new_session, next_frame, until_said
from tests.box.serving import RawOwner, calls, echo, owner_of
from tests.waiting import until, until_told

PATH = "/run/portway/raw.sock"
SAY_WORDS = "c.sendall(b'words'); c.shutdown(1); print(all_of(c))"
MOST_GROWTH = 48 << 20


def memory_of(box: BoxProcess) -> int:
    """Resident bytes of the box server."""
    assert box.process is not None
    with open(f"/proc/{box.process.pid}/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def socket_of(inside: Inside) -> pb.Socket | None:
    page = await ask(inside.channel, pb.ListSocketsRequest(session_id=inside.session_id))
    return page.sockets[0] if page.sockets else None


async def until_so_many(inside: Inside, count: int) -> None:
    async def so_many() -> bool:
        found = await socket_of(inside)
        return found is not None and found.connection_count == count

    await until_told(so_many)


async def test_ten_thousand_connections_wait_in_line_and_nobody_else_does(
    box: BoxProcess, inside: Inside, channel: PortwayChannel
) -> None:
    program = """
held = [c]
for number in range(9_999):
    one = socket.socket(socket.AF_UNIX)
    one.setblocking(False)
    try:
        one.connect("/run/portway/raw.sock")
        held.append(one)
    except OSError:
        one.close()
print("tried", flush=True)
sys.stdin.read()
"""
    other = await new_session(channel)
    before = memory_of(box)
    async with owner_of(box) as owner:
        async with owner.serve_socket(inside.session_id, "raw", echo):
            await inside.write("/workspace/flood.py", calls(PATH, program).encode())
            flood = await begin(inside, "exec python3 flood.py")
            await until_said(flood, b"tried")
            await until_so_many(inside, 64)
            async with owner.serve_socket(other.session_id, "raw", echo):
                assert (await other.python(calls(PATH, SAY_WORDS))).stdout == "b'words'\n"
            assert memory_of(box) - before < MOST_GROWTH
            await flood.write(process_pb2.ExecRequest(close_stdin=process_pb2.CloseStdin()))
            while not (await next_frame(flood)).HasField("exit"):
                pass
            await until_so_many(inside, 0)
            assert (await inside.python(calls(PATH, SAY_WORDS))).stdout == "b'words'\n"
    await other.delete()


async def test_a_program_that_floods_a_stalled_owner_is_held_up_and_the_box_stays_small(
    box: BoxProcess, inside: Inside
) -> None:
    owner = RawOwner(inside.channel)
    await owner.listen(inside, connection_credit=1 << 20)
    flood = """
import select
mine = [c] + [connected() for _ in range(40)]
for one in mine:
    one.setblocking(False)
block, sent, idle = b"x" * 65536, 0, 0
while idle < 20:
    ready = select.select([], mine, [], 0.1)[1]
    idle = 0 if ready else idle + 1
    for one in ready:
        try:
            sent += one.send(block)
        except BlockingIOError:
            pass
print(sent, flush=True)
"""
    before = memory_of(box)
    result = await inside.python(calls(PATH, flood))
    sent = int(result.stdout)
    # What the kernel keeps for each connection, what is on the way to the owner, and nothing that grows.
    assert 1 << 20 < sent < 64 << 20, result
    assert memory_of(box) - before < MOST_GROWTH
    owner.call.cancel()


async def test_a_slow_program_does_not_hold_up_its_neighbours(box: BoxProcess, inside: Inside) -> None:
    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readline()
        if asked == b"words\n":
            writer.write(b"here you are")
            return
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()
            poured.append(1)

    poured: list[int] = []
    await inside.write("/workspace/slow.py", calls(PATH, "c.sendall(b'much\\n'); time.sleep(600)").encode())
    before = memory_of(box)
    async with owner_of(box) as owner, owner.serve_socket(inside.session_id, "raw", pour):
        for _ in range(5):
            await begin(inside, "exec python3 slow.py")
        await until_so_many(inside, 5)
        await until(lambda: len(poured) > 5)
        for _ in range(5):
            found = await inside.python(calls(PATH, "c.sendall(b'words\\n'); print(all_of(c))"))
            assert found.stdout == "b'here you are'\n"
        assert memory_of(box) - before < MOST_GROWTH
        # All five are held up by now; what they got is what buffers take.
        assert len(poured) * 65_536 < 16 << 20


async def test_a_slow_owner_of_one_connection_still_hears_the_others(box: BoxProcess, inside: Inside) -> None:
    owner = RawOwner(inside.channel)
    await owner.listen(inside, connection_credit=1000)
    await inside.write("/workspace/flood.py", calls(PATH, "c.sendall(b'x' * 50_000_000)").encode())
    await begin(inside, "exec python3 flood.py")
    heard: dict[int, int] = {}

    async def hear_until_quiet(number: int, size: int) -> None:
        while heard.get(number, 0) < size:
            frame = await owner.hear()
            if frame.HasField("data"):
                heard[frame.connection_id] = heard.get(frame.connection_id, 0) + len(frame.data)

    await hear_until_quiet(1, 1000)
    calling = asyncio.create_task(inside.python(calls(PATH, "c.sendall(b'y' * 900); print(c.recv(9))")))
    await hear_until_quiet(2, 900)
    await owner.say(2, data=b"heard you")
    assert (await calling).stdout == "b'heard you'\n"
    assert heard == {1: 1000, 2: 900}
    await owner.say(1, credit=500)
    await hear_until_quiet(1, 1500)
    owner.call.cancel()


async def test_an_owner_that_sends_more_than_its_credit_loses_that_connection(box: BoxProcess, inside: Inside) -> None:
    owner = RawOwner(inside.channel)
    listening = await owner.listen(inside)
    await inside.write("/workspace/sleeper.py", calls(PATH, "time.sleep(600)").encode())
    await begin(inside, "exec python3 sleeper.py")
    assert (await owner.hear()).HasField("opened")
    block = b"x" * 65_536
    ended = None
    for _ in range(listening.connection_credit // len(block) + 20):
        await owner.say(1, data=block)
    while ended is None:
        frame = await owner.hear()
        ended = frame.closed if frame.HasField("closed") else None
    assert ended.reset and "credit" in ended.reason
    calling = asyncio.create_task(inside.python(calls(PATH, "print(c.recv(9))")))
    while not (await owner.hear()).HasField("opened"):
        pass
    await owner.say(2, data=b"fine")
    assert (await calling).stdout == "b'fine'\n"
    owner.call.cancel()


async def test_data_after_the_end_of_data_resets_the_connection(box: BoxProcess, inside: Inside) -> None:
    owner = RawOwner(inside.channel)
    await owner.listen(inside)
    calling = asyncio.create_task(inside.python(calls(PATH, "print(all_of(c)); time.sleep(600)"), timeout=5))
    assert (await owner.hear()).HasField("opened")
    await owner.say(1, half_closed=pb.SocketHalfClosed())
    await owner.say(1, data=b"late")
    frame = await owner.hear()
    assert frame.closed.reset and "after the end" in frame.closed.reason
    calling.cancel()
    owner.call.cancel()
