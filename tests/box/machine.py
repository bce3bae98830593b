"""What the machine itself shows of a box: processes, control groups, mounts, loop devices."""

import contextlib
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.box.box_process import BoxProcess
from tests.waiting import until


def processes_with(mark: str) -> list[int]:
    """Processes of the machine with `mark` in their command line."""
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            with contextlib.suppress(OSError):
                if mark.encode() in (directory / "cmdline").read_bytes():
                    found.append(int(directory.name))
    return found


def users_of(pids: Iterable[int]) -> set[int]:
    """The real users of processes, as the machine counts them."""
    users = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("Uid:"):
                    users.add(int(line.split()[1]))
    return users


def leftovers(box: BoxProcess) -> list[str]:
    """Everything of this box that is still in the kernel, but for the server itself."""
    return [*_processes(box), *_groups(box), *_mounts(box), *_loops(box)]


def _processes(box: BoxProcess) -> list[str]:
    """By what they hold: the launcher and everything it starts live in mount namespaces with the box's root."""
    lock = str(box.data / "launcher.lock")
    own = box.process.pid if box.process is not None else 0
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit() and int(directory.name) != own:
            with contextlib.suppress(OSError):
                if any(link.readlink() == Path(lock) for link in (directory / "fd").iterdir()):
                    found.append(f"process {directory.name} holds {lock}")
            with contextlib.suppress(OSError):
                if "portway-box" in (directory / "mountinfo").read_text() and _is_of(directory, box):
                    found.append(f"process {directory.name} is in a sandbox of the box")
    return found


def _is_of(directory: Path, box: BoxProcess) -> bool:
    """Whether a process in a sandbox is one of this box: its control group or its user says so."""
    identity = (box.data / "installation").read_text().strip()
    return identity in (directory / "cgroup").read_text() or str(box.data) in (directory / "mountinfo").read_text()


def _groups(box: BoxProcess) -> list[str]:
    name = f"portway-box-{(box.data / 'installation').read_text().strip()}"
    return [f"control group {path}/{name}" for path, names, _files in os.walk("/sys/fs/cgroup") if name in names]


def _mounts(box: BoxProcess) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(box.data) in line]


def _loops(box: BoxProcess) -> list[str]:
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if str(box.data) in backing.read_text():
                found.append(f"loop device {backing.parent.parent.name}")
    return found


async def until_nothing_is_left(box: BoxProcess) -> None:
    seen: list[str] = []

    def clean() -> bool:
        seen[:] = leftovers(box)
        return not seen

    try:
        await until(clean)
    except TimeoutError:
        raise AssertionError(f"left over: {seen}") from None


async def until_gone(mark: str) -> None:
    await until(lambda: not processes_with(mark))


def kill_all(pids: Iterable[int]) -> None:
    """SIGKILL to each of these processes, at once."""
    subprocess.run(["/bin/kill", "-9", *(str(pid) for pid in pids)], check=False)


async def seen(mark: str, count: int = 1) -> list[int]:
    """Waits until so many processes with `mark` run on the machine."""
    await until(lambda: len(processes_with(mark)) >= count)
    return processes_with(mark)
