"""Nothing of a harness's program outlives the plugin, the runtime, the host or the box that is killed under it."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.contracts.harness.stacks import PLACES, Harnessed, harnessed
from tests.e2e.stack import alive
from tests.sandbox import needs_sandbox
from tests.waiting import until

pytestmark = [needs_sandbox, pytest.mark.heavy]


def plugins(stack: Harnessed) -> list[int]:
    """Processes of the plugin `exec`, which are descendants of the installation's own runtime."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                said = (entry / "stat").read_text()
            except OSError:
                continue
            name = said.partition("(")[2].rpartition(")")[0]
            if (
                name.startswith("pw:")
                and "exec" in name
                and f"{stack.stack.data}".encode() in _ancestry(int(entry.name))
            ):
                found.append(int(entry.name))
    return found


def _ancestry(pid: int) -> bytes:
    words = b""
    while pid > 1:
        try:
            words += Path(f"/proc/{pid}/cmdline").read_bytes()
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return words


def _gone(pid: int) -> bool:
    return not alive(pid)


@pytest.mark.parametrize("place", PLACES)
async def test_whatever_is_killed_nothing_is_left(tmp_path: Path, place: str) -> None:
    for one in (tmp_path, *tmp_path.parents[:3]):
        one.chmod(0o755)
    async with harnessed(tmp_path) as stack:
        for victim in ("plugin", "runtime", "host", "box"):
            if (victim, place) == ("box", "machine"):
                continue
            await stack.begin(f"exec-{place}", "stubborn x")
            await until(lambda: len(stack.processes()) >= 2)
            if victim == "plugin":
                killed = plugins(stack)
                assert killed
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)
                    await until(partial(_gone, pid))
            else:
                old = await stack.stack.kill(victim)
                await stack.stack.restarted(victim, old)
            await until(lambda: not stack.processes())
            told = await stack.say(f"exec-{place}", "ok still well")
            assert told.text == "still well", (victim, told.run.error)
