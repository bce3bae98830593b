"""An engine that is killed or stopped under a running box, and comes back: with its containers, or without."""

import contextlib
import os
import signal

import pytest

from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import PortwayError, Unavailable
from portway.rpc.ids import new_id
from portway.v1 import box_pb2, process_pb2, session_pb2
from tests.asking import ask
from tests.box.box_process import DOCKER, box_process
from tests.box.inside import Exec, begin, dial, new_session, next_frame, until_said
from tests.box.machine import until_gone, until_nothing_is_left
from tests.box.test_containers import containers
from tests.engines.dockerd import Dockerd, own_engine, why_no_docker
from tests.waiting import until, until_told

KILLED, STOPPED = signal.SIGKILL, signal.SIGTERM
pytestmark = pytest.mark.heavy


async def end(engine: Dockerd, how: signal.Signals) -> None:
    pid = engine.pid
    os.kill(pid, how)
    await until(lambda: engine.is_gone(pid))


async def until_back(channel: PortwayChannel) -> None:
    async def is_back() -> bool:
        with contextlib.suppress(PortwayError):
            fresh = await new_session(channel)
            assert (await fresh.sh("echo well")).stdout == "well\n"
            await fresh.delete()
            return bool((await ask(channel, box_pb2.GetBoxStatusRequest())).available)
        return False

    await until_told(is_back)


async def goes_on(call: Exec) -> bool:
    """Whether a command still runs; one that does not was told as lost, and by no other end."""
    if not call.done():
        await call.write(process_pb2.ExecRequest(stdin=b"\n"))
    try:
        while True:
            frame = await next_frame(call)
            assert frame.WhichOneof("kind") != "exit", frame
            if b"and on" in frame.stdout:
                return True
    except Unavailable as error:
        assert "lost" in error.message, error
        return False


@pytest.mark.parametrize("live_restore", [False, True], ids=["containers end", "containers stay"])
@pytest.mark.parametrize("how", [KILLED, STOPPED], ids=["killed", "stopped"])
async def test_an_engine_that_comes_back_brings_the_box_back(how: signal.Signals, live_restore: bool) -> None:
    if reason := why_no_docker():
        pytest.skip(reason)
    engine, reason = own_engine(f"{how}{live_restore}", live_restore=live_restore)
    assert engine is not None, reason
    settings = {"backend": "docker", "engine": {"docker_socket": engine.socket, "image": engine.image}}
    mark, other = new_id("mark"), new_id("mark")
    with box_process(DOCKER, settings=settings) as box:
        box.start()
        async with dial(box) as channel:
            session = await new_session(channel, session_id="s", persistent=True)
            deleted = await new_session(channel, session_id="deleted")
            await session.sh("echo kept > file; echo temporary > /tmp/file")
            call = await begin(session, f"echo up; setsid sleep 600 & read x; echo 'and on'; sleep 600; : {mark}")
            await until_said(call, b"up\n")
            gone = await begin(deleted, f"echo up; sleep 600; : {other}")
            await until_said(gone, b"up\n")

            await end(engine, how)
            with pytest.raises(PortwayError, match="docker"):
                await new_session(channel)
            if how == KILLED:
                assert (await session.sh("cat file /tmp/file")).stdout == "kept\ntemporary\n"
            await deleted.delete()
            await until_gone(other)
            engine.start_again()
            await until_back(channel)

            if await goes_on(call):
                assert live_restore
                assert (await session.sh("cat file /tmp/file")).stdout == "kept\ntemporary\n"
            else:
                await until_gone(mark)
                assert (await session.sh("cat file; ls /tmp")).stdout == "kept\n"
            assert len(containers(box, engine)) == 1
            await session.delete()
            await until_gone(mark)
            held = await ask(channel, session_pb2.ListHeldRequest(session_id="s"))
            assert not held.items, held
        await until(lambda: not containers(box, engine))
        box.stop()
        await until_nothing_is_left(box)
