"""What the machine is like before and after a box was used as much as it can be: nothing of it may have changed."""

import asyncio
import contextlib
import os
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from portway.box.isolation.users import FIRST_USER
from portway.rpc.errors import PortwayError
from portway.v1.process_pb2 import EXIT_STATUS_TIMED_OUT
from portway.v1.session_pb2 import NETWORK_MODE_ALLOW_LIST, NETWORK_MODE_ON, NetworkPolicy
from tests.box.box_process import DOCKER, ROOT, UNPRIVILEGED, BoxProcess, box_process, why_not
from tests.box.inside import Inside, begin, dial, new_session, until_said
from tests.box.machine import leftovers, until_nothing_is_left

# Nodes that come, go or change hands with other programs' terminals and disks, and settings that only count.
_OF_OTHERS = ("tty", "pts", "ptmx", "loop", "vcs", "console")
_COUNTERS = ("random", "nr", "state", "dentry", "inode", "ns_last_pid", "quota", "bind_mounts", "stat", "used", "pty")
_NETWORKS = (("ip", "rule"), ("ip", "-6", "rule"), ("ip", "route", "show", "table", "0"), ("ip", "-o", "link"))
# Other tests have cables of their own at the same time.
_CABLES = ("pwnet", "198.18.")


def devices() -> dict[str, tuple[int, int, int]]:
    """Owner, group and mode of the machine's device nodes."""
    found = {}
    for folder, _folders, names in os.walk("/dev"):
        for name in names:
            with contextlib.suppress(OSError):
                told = os.lstat(f"{folder}/{name}")
                kind = stat.S_ISCHR(told.st_mode) or stat.S_ISBLK(told.st_mode)
                if kind and not name.startswith(_OF_OTHERS) and "/pts" not in folder:
                    found[f"{folder}/{name}"] = (told.st_uid, told.st_gid, told.st_mode)
    return found


def kernel_settings() -> dict[str, bytes]:
    found = {}
    for folder, folders, names in os.walk("/proc/sys"):
        folders[:] = [name for name in folders if not any(word in name for word in ("random", "quota", *_CABLES))]
        for name in names:
            with contextlib.suppress(OSError):
                if not any(word in name for word in _COUNTERS):
                    found[f"{folder}/{name}"] = Path(folder, name).read_bytes()
    return found


def networks() -> dict[str, list[str]]:
    found = {}
    for command in _NETWORKS:
        with contextlib.suppress(FileNotFoundError):
            said = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
            found[" ".join(command)] = sorted(line for line in said if not any(word in line for word in _CABLES))
    return found


def differences(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, tuple[object, object]]:
    """What was there before and is otherwise now."""
    return {name: (old, after.get(name)) for name, old in before.items() if after.get(name) != old}


@pytest.fixture(params=[ROOT, UNPRIVILEGED, DOCKER])
def mortal(request: pytest.FixtureRequest) -> Iterator[BoxProcess]:
    if reason := why_not(request.param):
        pytest.skip(reason)
    before = devices()
    # A device that is a session's user's already could be shut to everybody by what is tried here.
    assert all(owner < FIRST_USER for owner, _group, _mode in before.values()), before
    try:
        with box_process(request.param, settings={"reap_interval": 0.5}) as box:
            yield box
    finally:
        for path in differences(before, devices()):
            owner, group, mode = before[path]
            os.chown(path, owner, group)
            os.chmod(path, stat.S_IMODE(mode))


async def _use(session: Inside) -> None:
    """All that a session's commands and files can be used for, and what they try to change of the machine."""
    greedy = "chmod 000 /dev/null /dev/zero /dev/full /dev/random /dev/tty; chown 0:0 /dev/null; chmod 777 /dev/fd/0"
    await session.sh(f"{greedy} 2>/dev/null; echo x > /dev/null; (setsid sleep 600 &); cat", timeout=20.0)
    program = "import os\nfor n in range(3):\n    try: os.fchmod(n, 0o600)\n    except OSError: pass\nprint('tried')"
    assert (await session.python(program)).stdout == "tried\n"
    assert (await session.sh("tty; chmod 666 $(tty)", terminal=(24, 80))).code is not None
    assert (await session.sh("sleep 600", timeout=0.3)).exit.status == EXIT_STATUS_TIMED_OUT
    await session.write("file", b"x" * 100_000)
    assert (await session.sh("wc -c < file")).stdout.strip() == "100000"
    call = await begin(session, "echo up; sleep 600")
    await until_said(call, b"up\n")
    call.cancel()


async def test_nothing_of_the_machine_is_otherwise_after_a_box_was_used(mortal: BoxProcess) -> None:
    devices_before, settings, network = devices(), kernel_settings(), networks()
    assert len(devices_before) > 5 and len(settings) > 100
    policies = [NetworkPolicy(), NetworkPolicy(mode=NETWORK_MODE_ON)]
    policies.append(NetworkPolicy(mode=NETWORK_MODE_ALLOW_LIST, allow=["a.example"]))
    mortal.start()
    async with dial(mortal) as channel:
        sessions = []
        for number, policy in enumerate(policies):
            with contextlib.suppress(PortwayError):  # the mode cannot be had on every machine
                sessions.append(await new_session(channel, network=policy, persistent=number == 0))
        assert sessions
        await asyncio.gather(*(_use(session) for session in sessions))
        mortal.kill()
    mortal.start()
    async with dial(mortal) as channel:
        session = await new_session(channel)
        await _use(session)
        assert differences(devices_before, devices()) == {}
        await session.delete()
    mortal.stop()
    await until_nothing_is_left(mortal)
    assert leftovers(mortal) == []
    assert differences(devices_before, devices()) == {}
    assert differences(settings, kernel_settings()) == {}
    assert differences(network, networks()) == {}
