"""A minder: one process beside each command, of another user, that tells its end when nothing of it is left.

Everything that the command starts, however it detaches itself, stays below the minder. When the command ends, is to be
killed, or the box is gone (its line ends), the minder stops all of it, so that nothing is born any more, and kills it.
"""

import contextlib
import os
import resource
import select
import signal
import socket
from dataclasses import dataclass
from typing import Any

from portway.box.backends.engine.becoming import Means, Place, become
from portway.box.backends.namespace import wire
from portway.box.isolation import syscalls

_SWEEP_MILLISECONDS = 3
_MOST_ROUNDS = 200
_OOM_FILES = ("/sys/fs/cgroup/memory/memory.oom_control", "/sys/fs/cgroup/memory.events")


@dataclass(frozen=True, slots=True)
class Errand:
    """What is to be run: its line to the box, a descriptor with what it is, and where it finds things."""

    kind: str
    control: int
    place: Place

    @classmethod
    def of(cls, order: dict[str, Any], descriptors: list[int]) -> "Errand":
        """`order` tells how many of the descriptors are the command's own; groups to join follow."""
        control, content, *rest = descriptors
        own = order["own"]
        return cls(order["kind"], control, Place(content, tuple(rest[:own]), tuple(rest[own:])))

    def refuse(self, reason: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=os.dup(self.control)) as line:
            wire.send(line, {"failed": reason})


def mind(errand: Errand, means: Means) -> None:
    """Never returns."""
    syscalls.set_child_subreaper()
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=errand.control)
    wakeup, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    killed_before = _oom_kills()
    # Its other end closes when the command is executed: from then on signals reach what they are meant for.
    executed, executing = os.pipe2(os.O_CLOEXEC)
    try:
        command = os.fork()
    except OSError as error:
        wire.send(line, {"failed": f"the session has no room for a process: {error.strerror}"})
        os._exit(1)
    if command == 0:
        signal.set_wakeup_fd(-1)
        become(errand.kind, errand.place, means)
    os.close(executing)
    for descriptor in (errand.place.content, *errand.place.own, *errand.place.groups):
        os.close(descriptor)
    status = _Minder(line, wakeup, executed, command).run()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = {
        "status": status,
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 6),
        "peak_memory": used.ru_maxrss * 1024,
        "out_of_memory": _oom_kills() > killed_before,
    }
    with contextlib.suppress(OSError):
        wire.send(line, report)
    os._exit(0)


class _Minder:
    """Waits for signals to pass on, and for the end."""

    def __init__(self, line: socket.socket, wakeup: int, executed: int, command: int) -> None:
        self._line = line
        self._wakeup = wakeup
        self._executed = executed
        self._command = command
        self._status: int | None = None
        self._ending = False
        self._early: list[int] | None = []
        self._poll = select.poll()
        for descriptor in (line.fileno(), wakeup, executed):
            self._poll.register(descriptor, select.POLLIN)

    def run(self) -> int:
        """The wait status of the command, when nothing is left of it."""
        while True:
            patience = _SWEEP_MILLISECONDS if self._ending else None
            ready = [descriptor for descriptor, _event in self._poll.poll(patience)]
            if self._wakeup in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wakeup, 4096)
            if self._executed in ready:
                self._release()
            if self._line.fileno() in ready:
                self._listen()
            alone = self._reap()
            if alone and self._status is not None:
                return self._status
            if self._status is not None:
                self._ending = True
            if self._ending:
                _sweep()

    def _release(self) -> None:
        self._poll.unregister(self._executed)
        with contextlib.suppress(OSError):
            wire.send(self._line, {"begun": True})
        early, self._early = self._early or [], None
        for number in early:
            self._signal(number)

    def _listen(self) -> None:
        try:
            received = wire.receive(self._line)
        except ConnectionResetError:
            received = None
        if received is None:
            # Nobody waits for it any more.
            self._poll.unregister(self._line)
            self._ending = True
            return
        number = received[0]["signal"]
        if number == signal.SIGKILL:
            self._ending = True
        elif self._early is not None:
            self._early.append(number)
        else:
            self._signal(number)

    def _signal(self, number: int) -> None:
        # It leads a group of its own; its number is not given out again before it is reaped here.
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._command, number)

    def _reap(self) -> bool:
        """Whether no child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self._command:
                self._status = status


def _sweep() -> None:
    """Stops everything below until nothing new appears, then kills it."""
    stopped: set[int] = set()
    for _ in range(_MOST_ROUNDS):
        new = _below(os.getpid()) - stopped
        if not new:
            break
        _send(new, signal.SIGSTOP)
        stopped |= new
    _send(stopped, signal.SIGKILL)


def _send(pids: set[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _below(root: int) -> set[int]:
    """All descendants of a process."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    waiting = [root]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def children_of(parent: int) -> set[int]:
    return {pid for pid, its_parent in parents().items() if its_parent == parent}


def parents() -> dict[int, int]:
    """Every process that can be seen, and its parent. Not every kernel lists the children of one."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                found[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
    return found


def _oom_kills() -> int:
    """How many processes of this container the kernel has killed for want of memory; 0 where it does not tell."""
    for path in _OOM_FILES:
        with contextlib.suppress(OSError), open(path, "rb") as file:
            for line in file:
                name, _, value = line.partition(b" ")
                if name == b"oom_kill":
                    return int(value)
    return 0
