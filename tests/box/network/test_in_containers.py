"""Networks of sessions in containers: what is left of them after kills, and what a plain user's box can give."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import Unavailable, WrongState
from portway.v1.session_pb2 import NetworkPolicy
from tests.box.box_process import DOCKER, box_process, why_not
from tests.box.inside import begin, dial, new_session, until_said
from tests.box.machine import until_nothing_is_left
from tests.box.network.internet import Internet
from tests.box.network.world import ALLOW_LIST, ON, SAY, gates, run, settings
from tests.box.test_containers import client, containers, plain_box
from tests.waiting import until, until_told


@contextlib.contextmanager
def networks_of(containers_: list[str]) -> Iterator[set[str]]:
    """Network namespaces that processes of these containers are in. They are held here, or the kernel would give the
    number of one that is gone to the next."""
    found, held = set(), []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            with contextlib.suppress(OSError):
                if any(one in (directory / "cgroup").read_text() for one in containers_):
                    held.append(os.open(directory / "ns/net", os.O_RDONLY | os.O_CLOEXEC))
                    found.add(os.readlink(f"/proc/self/fd/{held[-1]}"))
    try:
        yield found
    finally:
        for descriptor in held:
            os.close(descriptor)


def seen_networks() -> set[str]:
    """Every network namespace that a process is in or holds open, besides this one."""
    found = set()
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit() and int(directory.name) != os.getpid():
            with contextlib.suppress(OSError):
                links = [directory / "ns/net", *(directory / "fd").iterdir()]
                for link in links:
                    with contextlib.suppress(OSError):
                        found.add(os.readlink(link))
    return found


@pytest.mark.heavy
@pytest.mark.parametrize("victim", ["box", "container"])
async def test_nothing_of_a_containers_network_outlives_a_kill(outside: Internet, victim: str) -> None:
    if reason := why_not(DOCKER):
        pytest.skip(reason)
    answering = f"print(reach('{outside.public}', 7))"
    with box_process(DOCKER, settings=settings(outside)) as mortal:
        mortal.start()
        async with dial(mortal) as channel:
            policy = NetworkPolicy(mode=ON)
            session = await new_session(channel, session_id="s", persistent=True, network=policy)
            hold = (
                f"s = socket.create_connection(('{outside.public}', 9)); print('held', flush=True); time.sleep(600)\n"
            )
            call = await begin(session, "exec /usr/bin/python3 -I - <<'END'\n" + SAY + hold + "END\n")
            await until_said(call, b"held\n")
            (gate,) = gates(mortal)
            (one,) = containers(mortal)
            with networks_of([one["Id"]]) as networks:
                assert networks
                if victim == "box":
                    mortal.kill()
                    await until(lambda: not os.path.exists(f"/proc/{gate}"))
                else:
                    with client() as engine:
                        engine.kill(one["Id"])

                    async def answers() -> bool:
                        with contextlib.suppress(Unavailable):
                            return await run(session, answering) == ["answered"]
                        return False

                    await until_told(answers)
                call.cancel()
                await until(lambda: not networks & seen_networks())
        if victim == "box":
            mortal.start()
            async with dial(mortal) as channel:
                session = await new_session(channel, session_id="s", persistent=True, network=policy)
                assert await run(session, answering) == ["answered"]
                await session.delete()
        mortal.stop()
        await until(lambda: not containers(mortal))
        await until_nothing_is_left(mortal)


@pytest.mark.heavy
async def test_a_plain_users_box_has_lists_in_containers_and_says_why_not_more() -> None:
    with plain_box() as plain:
        async with dial(plain) as channel:
            await _tried_in(channel)
        assert containers(plain) == []


async def _tried_in(channel: PortwayChannel) -> None:
    with pytest.raises(WrongState, match="only where the box runs as root"):
        await new_session(channel, network=NetworkPolicy(mode=ON))
    session = await new_session(channel, network=NetworkPolicy(mode=ALLOW_LIST, allow=["a.test"]))
    program = "print(tunnel('b.test:443')[1], tunnel('a.test:443')[1])"
    # The first is refused, the second only not there.
    assert await run(session, program) == ["403 502"]
    await session.delete()
