"""The floor of the box: the same sandbox built by hand, without any server, as fast as one process can start it.

Everything of the box's own is in it: control groups, user, limits, the two filters, the same view of the machine, a
network of its own. It is run as `python -m bench.kit.sandbox CALLERS COUNT` and prints what it took as JSON.
"""

import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from portway.box.backends.namespace.arguments import command_arguments, session_arguments
from portway.box.backends.namespace.machine import Machine
from portway.box.backends.namespace.stage import ETC, StagedSession, read_template
from portway.box.backends.types import CommandSpec
from portway.box.isolation.cgroups import CgroupTree, Lane
from portway.box.isolation.limits import Limits, apply_rlimits, rlimits
from portway.box.isolation.seccomp import program_files
from portway.box.isolation.syscalls import close_from, set_child_subreaper, set_no_new_privileges

USER = 1_879_048_191
_FIRST_FREE = 64
LIMITS = Limits(cpu_millis=1000 * (os.cpu_count() or 1))


class Builder:
    """Starts sandboxes by hand."""

    def __init__(self, folder: Path, root: bool, lanes: list[Lane]) -> None:
        self._root = root
        self._lanes = [lane.open_for_joining() for lane in lanes]
        self._bounds = rlimits(LIMITS, bound_memory=not lanes)
        present = frozenset(name for name in os.listdir("/proc") if not name.isdigit())
        places = {ETC: str(folder / "etc"), "/stage": str(folder), "/empty": str(folder / "empty")}
        arguments = [_moved(one, places) for one in session_arguments(StagedSession(False, ()), present)]
        command = CommandSpec(("/bin/true",), env=(("PATH", "/usr/bin:/bin"),))
        arguments += ["--unshare-net", *command_arguments(command)]
        self._arguments = b"".join(one.encode() + b"\0" for one in arguments)

    def start(self, lane: int) -> tuple[int, int]:
        """(process, the end of its output to read)."""
        reading, writing = os.pipe()
        arguments = os.memfd_create("arguments")
        os.write(arguments, self._arguments)
        os.lseek(arguments, 0, os.SEEK_SET)
        pid = os.fork()
        if pid == 0:
            self._become(lane, arguments, writing)
        os.close(arguments)
        os.close(writing)
        return pid, reading

    def _become(self, lane: int, arguments: int, output: int) -> None:
        try:
            for group in self._lanes[lane] if self._lanes else ():
                os.write(group, b"0")
            Path("/proc/self/oom_score_adj").write_text("900")
            apply_rlimits(self._bounds)
            if self._root:
                os.setgroups([])
                os.setresgid(USER, USER, USER)
                os.setresuid(USER, USER, USER)
            set_no_new_privileges()
            nothing = os.open("/dev/null", os.O_RDONLY)
            status = os.open("/dev/null", os.O_WRONLY)
            filters = [os.open(file, os.O_RDONLY) for file in program_files()]
            opened = (nothing, output, output, arguments, status, *filters)
            # First out of the way of each other, then to their places.
            moved = [fcntl.fcntl(one, fcntl.F_DUPFD, _FIRST_FREE) for one in opened]
            for place, one in enumerate(moved):
                os.dup2(one, place)
            close_from(len(moved))
            os.execve("/usr/bin/bwrap", ["bwrap", "--args", "3", "--", "/bin/true"], {})
        except OSError as error:
            os.write(2, str(error).encode())
        finally:
            os._exit(1)


def _moved(argument: str, places: dict[str, str]) -> str:
    """Where the box's small root has something, by hand it lies in a folder of the machine."""
    for inside, outside in places.items():
        if argument == inside or argument.startswith(inside + "/"):
            return outside + argument.removeprefix(inside)
    return argument


def finish(process: int, reading: int) -> None:
    said = b""
    while data := os.read(reading, 65536):
        said += data
    os.close(reading)
    if status := next(status for pid, status in ended() if pid == process):
        raise AssertionError(
            f"the sandbox built by hand did not run (status {status}): {said.decode(errors='replace')}"
        )


def ended() -> Iterator[tuple[int, int]]:
    """Processes that ended, with their status; also those that bubblewrap left to whoever takes them."""
    while True:
        yield os.wait()


def measure(builder: Builder, callers: int, count: int) -> list[float]:
    """Seconds of each start to end, with `callers` at the same time; the last figure is the time of all."""
    taken: list[float] = []
    begun = time.perf_counter()
    if callers == 1:
        for _ in range(count):
            at = time.perf_counter()
            finish(*builder.start(0))
            taken.append(time.perf_counter() - at)
        return [*taken, time.perf_counter() - begun]
    running: dict[int, tuple[int, int]] = {}

    def start(lane: int) -> None:
        process, reading = builder.start(lane)
        running[process] = (lane, reading)

    for lane in range(callers):
        start(lane)
    started = callers
    for process, status in ended():
        if process not in running:
            continue
        lane, reading = running.pop(process)
        if status:
            said = os.read(reading, 65536).decode(errors="replace")
            raise AssertionError(f"the sandbox built by hand did not run (status {status}): {said}")
        os.close(reading)
        if started < count:
            start(lane)
            started += 1
        elif not running:
            break
    return [time.perf_counter() - begun]


@contextmanager
def builder(callers: int) -> Iterator[Builder]:
    machine = Machine.look()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portway-bench-sandbox-")))
        folder.chmod(0o755)
        for name in ("etc", "empty", "run", "workspace", "tmp"):
            (folder / name).mkdir()
        for name, content in read_template().items():
            (folder / "etc" / name).write_bytes(content)
        lanes: list[Lane] = []
        if machine.root:
            for name in ("workspace", "tmp"):
                shutil.chown(folder / name, USER, USER)
            tree = CgroupTree.find(f"portway-bench-{os.getpid()}")
            stack.callback(tree.close)
            groups = tree.create("floor", LIMITS)
            stack.callback(groups.kill_and_remove)
            lanes = [groups.lane(number) for number in range(callers)]
        yield Builder(folder, machine.root, lanes)


def main() -> None:
    callers, count = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    set_child_subreaper()
    with builder(callers) as made:
        measure(made, callers, max(callers, 10))
        print(json.dumps(measure(made, callers, count)))


if __name__ == "__main__":
    main()
