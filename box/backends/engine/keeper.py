"""The keeper: process 1 of a container, and the only way in. Runs on files of its own (`kit.py`), not on the image's.

It dials the box once, before anything else runs, on a socket that nobody can dial afterwards. What arrives are orders
with descriptors: a command's own line, inputs and outputs come ready made from the box, nothing passes through here.
For each order it forks a minder (`minding.py`). When the box is gone the line ends, the keeper ends, and the kernel
ends everything in the container with it.

It holds the rights to become the session's user and to signal it, and no other; the bounding set is empty.
"""

import contextlib
import errno
import gc
import os
import select
import signal
import socket
from collections.abc import Callable

from portway.box.backends.engine.becoming import Means
from portway.box.backends.engine.minding import Errand, children_of, mind
from portway.box.backends.namespace import wire
from portway.box.isolation import syscalls

FOLDER = "/.portway"
LINE = f"{FOLDER}/line"
FILTERS = (f"{FOLDER}/kit/calls.bpf", f"{FOLDER}/kit/ioctl.bpf")
# CAP_KILL, CAP_SETGID, CAP_SETUID.
KEPT_CAPABILITIES = 1 << 5 | 1 << 6 | 1 << 7
SOCKETS = "/run/portway"
_SOCKETS = {"tcp": (socket.AF_INET, socket.SOCK_STREAM), "udp": (socket.AF_INET, socket.SOCK_DGRAM)}
_BACKLOG = 64
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Keeper:
    """The loop: orders in, minders out."""

    def __init__(self, line: socket.socket, filters: tuple[bytes, bytes]) -> None:
        self._line = line
        # Opened before the box puts one over it that commands cannot write to.
        self._means = Means(filters, os.open("/proc", _DIRECTORY))
        self._minders: set[int] = set()
        self._wakeup, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, note)

    def run(self) -> None:
        """Until the box is gone."""
        poll = select.poll()
        poll.register(self._line, select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _event in poll.poll()]
            if self._wakeup in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wakeup, 4096)
            self._reap()
            if self._line.fileno() in ready and not self._obey():
                return

    def _obey(self) -> bool:
        received = wire.receive(self._line)
        if received is None:
            return False
        order, descriptors = received
        try:
            match order["kind"]:
                case "open":
                    self._answer(order["request"], lambda: [os.open(path, _DIRECTORY) for path in order["paths"]])
                case "listen":
                    self._answer(order["request"], lambda: [_listen(order["socket"], order["port"], order["name"])])
                case "unlisten":
                    self._answer(order["request"], lambda: _unlisten(order["name"]))
                case _:
                    self._fork(Errand.of(order, descriptors))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _answer(self, request: int, open_all: Callable[[], list[int]]) -> None:
        """Gives the box descriptors of what is inside, or the reason why not."""
        try:
            opened = open_all()
        except OSError as error:
            kind = "taken" if error.errno == errno.EADDRINUSE else "failed"
            return wire.send(self._line, {"kind": kind, "request": request, "error": str(error)})
        wire.send(self._line, {"kind": "opened", "request": request}, opened)
        for descriptor in opened:
            os.close(descriptor)

    def _fork(self, errand: Errand) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            errand.refuse(f"the session has no room for a process: {error.strerror}")
            return
        if pid == 0:
            try:
                signal.set_wakeup_fd(-1)
                for descriptor in (self._wakeup, self._wake, self._line.fileno()):
                    os.close(descriptor)
                mind(errand, self._means)
            finally:
                os._exit(1)
        self._minders.add(pid)

    def _reap(self) -> None:
        while True:
            try:
                pid, _status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                break
            self._minders.discard(pid)
        # What a minder that was killed left behind has come here.
        for orphan in children_of(os.getpid()) - self._minders:
            with contextlib.suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)


def _unlisten(name: str) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{SOCKETS}/{name}")
    return []


def _listen(kind: str, port: int, name: str) -> int:
    """A listening socket in the container's network, or in a directory that only the keeper can change."""
    family, how = _SOCKETS.get(kind, (socket.AF_UNIX, socket.SOCK_STREAM))
    with socket.socket(family, how | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as made:
        if family == socket.AF_UNIX:
            path = f"{SOCKETS}/{name}"
            _unlisten(name)
            made.bind(path)
            os.chmod(path, 0o666)
        else:
            made.bind(("127.0.0.1", port))
        if how == socket.SOCK_STREAM:
            made.listen(_BACKLOG)
        return made.detach()


def note(_number: int, _frame: object) -> None:
    """The arrival is told through the wakeup descriptor; a handler must exist for that."""


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.connect(LINE)
    try:
        syscalls.set_no_new_privileges()
        syscalls.drop_bounding_set()
        syscalls.limit_capabilities(KEPT_CAPABILITIES)
        programs = []
        for path in FILTERS:
            with open(path, "rb") as file:
                programs.append(file.read())
        keeper = Keeper(line, (programs[0], programs[1]))
        gc.collect()
        gc.freeze()
        wire.send(line, {"kind": "ready", "request": 0})
    except OSError as error:
        wire.send(line, {"kind": "failed", "request": 0, "error": str(error)})
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        keeper.run()
