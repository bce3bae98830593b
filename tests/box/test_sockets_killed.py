"""Sockets whose box, launcher, owner or session is killed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from portway.rpc.errors import PortwayError, Unavailable
from portway.v1 import socket_pb2 as pb
from tests.asking import ask
from tests.box.box_process import ROOT, UNPRIVILEGED, BoxProcess, box_process, why_not
from tests.box.inside import dial, new_session
from tests.box.machine import until_nothing_is_left
from tests.box.serving import calls, echo, owner_of
from tests.waiting import until_told

PATH = "/run/portway/raw.sock"
SAY_WORDS = "c.sendall(b'words'); c.shutdown(1); print(all_of(c))"
OWNER = """
import asyncio, sys
from portway.clients.box import Box
async def echo(reader, writer):
    while data := await reader.read(1000):
        writer.write(data)
async def main(address, token, session):
    async with Box(address, token=token) as box, box.serve_socket(session, "raw", echo, generation=1) as served:
        print("serving", flush=True)
        await served.ended()
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(params=[ROOT, UNPRIVILEGED])
def mortal(request: pytest.FixtureRequest) -> Iterator[BoxProcess]:
    """A box of the test's own, to be killed."""
    if reason := why_not(request.param):
        pytest.skip(reason)
    with box_process(request.param) as box:
        box.start()
        yield box


def start(given: list[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", OWNER, *given], stdout=subprocess.PIPE)


async def test_a_killed_box_leaves_nothing_and_its_owner_comes_again(mortal: BoxProcess) -> None:
    async with owner_of(mortal) as owner, dial(mortal) as channel:
        inside = await new_session(channel)
        async with owner.serve_socket(inside.session_id, "raw", echo, port=0) as served:
            assert (await inside.python(calls(PATH, SAY_WORDS))).stdout == "b'words'\n"
            mortal.kill()
            with pytest.raises(Unavailable):
                await served.ended()
    await until_nothing_is_left(mortal)
    mortal.start()
    async with owner_of(mortal) as owner, dial(mortal) as channel:
        inside = await new_session(channel)
        async with owner.serve_socket(inside.session_id, "raw", echo):
            assert (await inside.python(calls(PATH, SAY_WORDS))).stdout == "b'words'\n"


async def test_the_owner_of_a_lost_sandbox_is_told_and_comes_again(mortal: BoxProcess) -> None:
    async with owner_of(mortal) as owner, dial(mortal) as channel:
        inside = await new_session(channel)
        async with owner.serve_socket(inside.session_id, "raw", echo) as served:
            os.kill(mortal.launcher_pids()[0], signal.SIGKILL)
            with pytest.raises(Unavailable):
                await served.ended()
        async with owner.serve_socket(inside.session_id, "raw", echo):
            assert (await inside.python(calls(PATH, SAY_WORDS))).stdout == "b'words'\n"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_an_owner_that_is_killed_or_hangs_gives_its_name_to_the_next_one(
    mortal: BoxProcess, how: signal.Signals
) -> None:
    async with owner_of(mortal) as owner, dial(mortal) as channel:
        inside = await new_session(channel)
        given = [mortal.address, mortal.tokens["admin"].text, inside.session_id]
        process = start(given)
        assert process.stdout is not None
        try:
            assert await asyncio.to_thread(process.stdout.readline) == b"serving\n"
            assert (await inside.python(calls(PATH, SAY_WORDS))).stdout == "b'words'\n"
            process.send_signal(how)
            async with owner.serve_socket(inside.session_id, "raw", echo, generation=2):
                assert (await inside.python(calls(PATH, SAY_WORDS))).stdout == "b'words'\n"
                process.kill()
                await asyncio.to_thread(process.wait)
                assert (await inside.python(calls(PATH, SAY_WORDS))).stdout == "b'words'\n"
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

        async def nothing_is_served() -> bool:
            page = await ask(channel, pb.ListSocketsRequest(session_id=inside.session_id))
            return not page.sockets

        await until_told(nothing_is_served)


async def test_a_box_that_stops_ends_its_sockets_and_leaves_nothing(mortal: BoxProcess) -> None:
    async with owner_of(mortal) as owner, dial(mortal) as channel:
        inside = await new_session(channel)
        async with owner.serve_socket(inside.session_id, "raw", echo, port=0) as served:
            assert mortal.process is not None
            mortal.process.terminate()
            with pytest.raises(PortwayError) as told:
                await served.ended()
            assert isinstance(told.value, Unavailable), told.value
            assert await asyncio.to_thread(mortal.wait_ended) == 0
    await until_nothing_is_left(mortal)
