"""The resident launcher process: single-threaded, started once, forks everything that runs in sandboxes.

It is process 1 of a PID namespace of its own, so the kernel ends every sandbox with it, at once and whatever state
they are in. When the box server is gone (its end of the line closes) it kills them all, removes their control groups
and ends. Holds no secret: it is executed with an empty environment and told nothing but paths, limits, descriptors.
"""

import contextlib
import errno
import gc
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from portway.box.backends.namespace import wire
from portway.box.backends.namespace.launcher import BWRAP, become_launcher
from portway.box.backends.namespace.listening import open_listener, remove_socket
from portway.box.backends.namespace.session_mounts import open_session
from portway.box.backends.namespace.skill_mounts import clone_skills, show_skills
from portway.box.backends.namespace.stage import HOST, enter_small_root
from portway.box.backends.namespace.zygote_parts import remove_groups, take_namespaces
from portway.box.isolation import syscalls
from portway.box.isolation.pidfd import wait_status, watch_process
from portway.box.isolation.syscalls import CLONE_NEWNS, MS_BIND
from portway.box.network.steering import CannotSteer

_POLL_MILLISECONDS, _EARLY_MILLISECONDS = 5000, 1
_REMOVE_TRIES, _REMOVE_PAUSE_SECONDS = 500, 0.01


class Zygote:
    """The loop of the resident process: orders in, children out, ends reported when nothing of a command is left."""

    def __init__(self, line: socket.socket, group_parents: list[int], group_name: str) -> None:
        self._line = line
        self._group_parents = group_parents
        self._group_name = group_name
        self._launchers: set[int] = set()
        self._workers: set[int] = set()
        # Launchers that ended, with those of their processes that were still there and are being killed.
        self._ending: dict[int, _Ending] = {}
        self._early: list[tuple[int, int]] = []
        # Commands whose end is to be told exactly: asked for, and found.
        self._sought: list[tuple[int, int]] = []
        self._watched: dict[int, int] = {}
        self._wakeup, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _note)

    def run(self) -> None:
        """Until the server is gone."""
        poll = select.poll()
        poll.register(self._line, select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        while True:
            patience = _EARLY_MILLISECONDS if self._early or self._sought else _POLL_MILLISECONDS
            ready = [descriptor for descriptor, _event in poll.poll(patience)]
            if self._wakeup in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wakeup, 4096)
            if self._line.fileno() in ready and not self._obey():
                return
            self._reap()
            self._signal_later()
            self._sought = [(pid, request) for pid, request in self._sought if not self._watch(pid, request)]

    def _obey(self) -> bool:
        received = wire.receive(self._line)
        if received is None:
            return False
        order, descriptors = received
        try:
            match order["kind"]:
                case "open":
                    self._fork_worker(lambda: self._open(order, descriptors))
                case "listen":
                    self._fork_worker(lambda: self._listen(order, descriptors))
                case "skills":
                    self._fork_worker(lambda: self._show_skills(order, descriptors))
                case "launcher":
                    self._fork_launcher(order, descriptors)
                case "watch":
                    self._sought.append((order["pid"], order["request"]))
                case "signal":
                    if not self._signal(order["pid"], order["signal"]):
                        self._early.append((order["pid"], order["signal"]))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _fork_launcher(self, order: dict[str, Any], descriptors: list[int]) -> None:
        pid = os.fork()
        if pid == 0:
            become_launcher(order, descriptors)
        self._launchers.add(pid)
        wire.send(self._line, {"kind": "launched", "request": order["request"], "pid": pid})

    def _fork_worker(self, work: Callable[[], None]) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                signal.set_wakeup_fd(-1)
                work()
            finally:
                os._exit(0)
        self._workers.add(pid)

    def _open(self, message: dict[str, Any], descriptors: list[int]) -> None:
        order = wire.OpenOrder.from_message(message)
        try:
            opened = open_session(order, descriptors[0] if descriptors else None)
        except CannotSteer as error:
            wire.send(self._line, {"kind": "unsupported", "request": order.request, "error": str(error)})
        except OSError as error:
            wire.send(self._line, {"kind": "failed", "request": order.request, "error": str(error)})
        else:
            wire.send(self._line, {"kind": "done", "request": order.request}, opened)

    def _listen(self, message: dict[str, Any], descriptors: list[int]) -> None:
        order = wire.ListenOrder.from_message(message)
        mounts, network = descriptors
        try:
            if order.kind == wire.REMOVE:
                remove_socket(order, mounts)
                return wire.send(self._line, {"kind": "done", "request": order.request})
            opened = open_listener(order, mounts, network)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            kind = "taken" if taken else "failed"
            wire.send(self._line, {"kind": kind, "request": order.request, "error": str(error)})
        else:
            wire.send(self._line, {"kind": "done", "request": order.request}, [opened.fileno()])

    def _show_skills(self, message: dict[str, Any], descriptors: list[int]) -> None:
        order = wire.SkillsOrder.from_message(message)
        try:
            clones = clone_skills(order.skills)
            syscalls.setns(descriptors[0], CLONE_NEWNS)
            shown = show_skills(order, clones, strict=True)
        except OSError as error:
            wire.send(
                self._line, {"kind": "failed", "request": order.request, "error": str(error), "errno": error.errno}
            )
        else:
            wire.send(self._line, {"kind": "done", "request": order.request}, [shown])

    def _signal(self, launcher: int, number: int) -> bool:
        """Whether the signal reached the command, or there is nothing any more that it could reach."""
        if launcher not in self._launchers:
            return True
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                # What it leaves behind becomes a child of this process and is killed in `_reap`.
                os.kill(launcher, number)
                return True
            command = _command_of(launcher)
            if command is not None:
                group = os.getpgid(command)
                # Not yet in a group of its own: what else is in this one is not the command's.
                if group == os.getpgid(launcher):
                    os.kill(command, number)
                else:
                    os.killpg(group, number)
                return True
        return False

    def _watch(self, launcher: int, request: int) -> bool:
        """Whether there is a command, or nothing to wait for any more. Its shell waits until it is found.

        bubblewrap's init, whose child it is, tells a death by signal 9 and an exit with 137 apart no more.
        """
        command = _command_of(launcher) if launcher in self._launchers else 0
        if command is None:
            return False
        descriptor = watch_process(command) if command else None
        if descriptor is not None:
            self._watched[launcher] = descriptor
        wire.send(self._line, {"kind": "done", "request": request})
        return True

    def _signal_later(self) -> None:
        """Signals for commands that were still being set up."""
        self._early = [(launcher, number) for launcher, number in self._early if not self._signal(launcher, number)]

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            used = _Used(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
            self._workers.discard(pid)
            if pid in self._launchers:
                self._launchers.discard(pid)
                self._begin_ending(pid, status, used)
            else:
                self._finish_orphan(pid, used)

    def _begin_ending(self, pid: int, status: int, used: "_Used") -> None:
        orphans = set(_children(os.getpid())) - self._launchers - self._workers - self._ending.keys()
        for orphan in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)
        claimed = set().union(*(ending.orphans for ending in self._ending.values())) if self._ending else set()
        ending = _Ending(status, used, orphans - claimed)
        if ending.orphans:
            self._ending[pid] = ending
        else:
            self._report(pid, ending)

    def _finish_orphan(self, pid: int, used: "_Used") -> None:
        for launcher, ending in list(self._ending.items()):
            if pid in ending.orphans:
                ending.orphans.discard(pid)
                ending.used = ending.used.with_another(used)
                if not ending.orphans:
                    del self._ending[launcher]
                    self._report(launcher, ending)

    def _report(self, pid: int, ending: "_Ending") -> None:
        watched = self._watched.pop(pid, None)
        told = None
        if watched is not None:
            told = wait_status(watched)
            os.close(watched)
        used = ending.used
        message = {"kind": "ended", "pid": pid, "status": ending.status, "cpu_seconds": round(used.seconds, 6)}
        wire.send(self._line, message | {"command_status": told, "peak_memory": used.largest})

    def end_everything(self) -> None:
        """Kills all processes of this namespace and removes the control groups that they were in."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.wait4(-1, 0)
        for _ in range(_REMOVE_TRIES):
            # For a moment after its last process a group may still be busy.
            if all([remove_groups(parent, self._group_name) for parent in self._group_parents]):
                return
            time.sleep(_REMOVE_PAUSE_SECONDS)


class _Ending:
    """A command whose launcher ended while something of it was still there."""

    __slots__ = ("orphans", "status", "used")

    def __init__(self, status: int, used: "_Used", orphans: set[int]) -> None:
        self.status = status
        self.used = used
        self.orphans = orphans


class _Used(NamedTuple):
    """Processor time of processes that ended, and the memory of the largest of them, in bytes."""

    seconds: float
    largest: int

    def with_another(self, other: "_Used") -> "_Used":
        return _Used(self.seconds + other.seconds, max(self.largest, other.largest))


def _note(_number: int, _frame: object) -> None:
    """The arrival is told through the wakeup descriptor; a handler must exist for that."""


def _open_to_all(path: str) -> bool:
    with contextlib.suppress(OSError):
        return os.stat(path).st_mode & 0o006 != 0
    return False


def _command_of(launcher: int) -> int | None:
    """The first child of the sandbox's init."""
    for init in _children(launcher):
        for command in _children(init)[:1]:
            return command
    return None


def _children(pid: int) -> list[int]:
    try:
        # In bytes: the codecs of this interpreter lie outside the small root.
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            return [int(child) for child in file.read().split()]
    except FileNotFoundError:
        return _children_by_search(pid)


def _children_by_search(parent: int) -> list[int]:
    """For kernels without the list of children, and processes that are gone."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                if int(file.read().rpartition(b")")[2].split()[1]) == parent:
                    found.append(int(name))
    return sorted(found)


def _become_first(line: socket.socket, setup: dict[str, Any], descriptors: list[int]) -> None:
    syscalls.set_parent_death_signal(signal.SIGKILL)
    syscalls.join_new_keyring()
    programs = (bytes.fromhex(setup["filters"][0]), bytes.fromhex(setup["filters"][1]))
    enter_small_root(setup["base"], programs, own_pids=True)
    with open(BWRAP, "wb"):
        pass
    syscalls.mount(HOST + setup["bwrap"], BWRAP, "", MS_BIND)
    syscalls.drop_bounding_set()
    present = [name for name in os.listdir("/proc") if not name.isdigit() and _open_to_all(f"/proc/{name}")]
    zygote = Zygote(line, descriptors, setup["group_name"])
    # Children share this memory until they write to it; the collector must not be the one who writes.
    gc.collect()
    gc.freeze()
    wire.send(line, {"kind": "ready", "proc": present})
    try:
        # A server that is gone in the middle of an answer is the same as one that is gone.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            zygote.run()
    finally:
        zygote.end_everything()


def main(descriptor: int, lock: int) -> None:
    """Runs on the line with this descriptor until the server is gone. `lock` stays open as long as anything may run."""
    os.set_inheritable(lock, False)
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=descriptor)
    line.set_inheritable(False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    received = wire.receive(line)
    if received is None:
        return
    setup, descriptors = received
    try:
        take_namespaces(root=setup["root"])
        child = os.fork()
        if child == 0:
            _become_first(line, setup, descriptors)
            os._exit(0)
    except OSError as error:
        wire.send(line, {"kind": "failed", "request": 0, "error": str(error)})
        os._exit(1)
    line.close()
    os.waitpid(child, 0)
