"""The gate as a process: what it may do, and that nothing of it or of a network is left after any end."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest

from portway.rpc.errors import Unavailable
from portway.v1 import box_pb2
from portway.v1.session_pb2 import NetworkPolicy
from tests.asking import ask
from tests.box.box_process import ROOT, UNPRIVILEGED, BoxProcess, box_process, why_not
from tests.box.inside import Inside, begin, dial, new_session, until_said
from tests.box.machine import kill_all, leftovers, until_nothing_is_left
from tests.box.network.internet import Internet
from tests.box.network.world import (
    ON,
    SAY,
    gates,
    run,
    settings,
    usage,
)
from tests.waiting import until, until_told


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def test_the_gate_is_nobody_and_holds_nothing(box: BoxProcess, on: Inside) -> None:
    (gate,) = gates(box)
    status = status_of(gate)
    assert {status[name] for name in ("CapEff", "CapPrm", "CapInh")} == {"0000000000000000"}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert environment_of(gate) == b""
    assert (status["Uid"] == status_of(box.pid)["Uid"]) == (box.mode == UNPRIVILEGED)
    opened = [os.readlink(f"/proc/{gate}/fd/{number}") for number in os.listdir(f"/proc/{gate}/fd")]
    assert not [path for path in opened if str(box.folder) in path and not path.endswith("box.log")]


async def test_a_gate_that_was_killed_begins_again_for_the_sessions_that_are_there(
    box: BoxProcess, on: Inside, listed: Inside, outside: Internet
) -> None:
    program = f"print(reach('{outside.public}', 7))"
    assert await run(on, program) == ["answered"]
    before = (await usage(on)).network_sent_bytes
    (gate,) = gates(box)
    os.kill(gate, signal.SIGKILL)
    await until(lambda: gate not in gates(box) and bool(gates(box)))

    async def answers() -> bool:
        return await run(on, program) == ["answered"] and await run(listed, "print(tunnel('public.test:7')[1])") == [
            "200"
        ]

    await until_told(answers)
    assert (await usage(on)).network_sent_bytes >= before
    errors = await ask(on.channel, box_pb2.ListErrorsRequest())
    assert "NETWORK_GATE_LOST" in {error.code for error in errors.errors}


async def test_deleted_sessions_leave_no_namespace_and_no_descriptor(
    box: BoxProcess, on: Inside, outside: Internet
) -> None:
    def descriptors() -> int:
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in (box.pid, *gates(box)))

    async def round_trip(count: int) -> None:
        async with dial(box) as channel:
            made = await asyncio.gather(*(new_session(channel, network=NetworkPolicy(mode=ON)) for _ in range(count)))
            for session in made[:3]:
                assert await run(session, f"print(reach('{outside.public}', 7))") == ["answered"]
            await asyncio.gather(*(session.delete() for session in made))

    await round_trip(3)
    before = descriptors()
    await round_trip(12)
    await until(lambda: descriptors() <= before)


@pytest.mark.parametrize("mode", [ROOT, UNPRIVILEGED])
@pytest.mark.parametrize("victims", ["box", "launcher", "box and launcher"])
async def test_nothing_of_a_network_outlives_a_kill(outside: Internet, mode: str, victims: str) -> None:
    if reason := why_not(mode):
        pytest.skip(reason)
    with box_process(mode, settings=settings(outside)) as mortal:
        mortal.start()
        async with dial(mortal) as channel:
            session = await new_session(channel, session_id="s", persistent=True, network=NetworkPolicy(mode=ON))
            hold = (
                f"s = socket.create_connection(('{outside.public}', 9)); print('held', flush=True); time.sleep(600)\n"
            )
            call = await begin(session, "exec /usr/bin/python3 -I - <<'END'\n" + SAY + hold + "END\n")
            await until_said(call, b"held\n")
            (gate,) = gates(mortal)
            if "launcher" in victims:
                kill_all(mortal.launcher_pids())
            if "box" in victims:
                mortal.kill()
                await until(lambda: not os.path.exists(f"/proc/{gate}"))
            else:
                # The session comes back with its network.
                async def answers() -> bool:
                    with contextlib.suppress(Unavailable):
                        return await run(session, f"print(reach('{outside.public}', 7))") == ["answered"]
                    return False

                await until_told(answers)
            call.cancel()
        if victims == "box":
            await until_nothing_is_left(mortal)
        if "box" in victims:
            mortal.start()
            async with dial(mortal) as channel:
                session = await new_session(channel, session_id="s", persistent=True, network=NetworkPolicy(mode=ON))
                assert await run(session, f"print(reach('{outside.public}', 7))") == ["answered"]
        mortal.stop()
        assert leftovers(mortal) == []
