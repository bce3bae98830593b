"""A launcher: forked ahead of need, in its control groups and network and without rights, waiting for one command.

Everything that takes time was done when the command arrives: what is left is to put descriptors in place and execute
bubblewrap. A launcher serves one command, or one file search, and is gone.
"""

import fcntl
import os
import signal
import socket
import termios
from typing import Any

from portway.box.backends.namespace import wire
from portway.box.backends.namespace.stage import FILTERS
from portway.box.files.search import run_search
from portway.box.isolation import syscalls
from portway.box.isolation.limits import apply_rlimits
from portway.box.isolation.syscalls import CLONE_NEWNET, CLONE_NEWNS

COMMAND, SEARCH = b"c", b"s"
# A command that shares the launcher's session, with its input as the controlling terminal.
ON_TERMINAL = b"t"
BWRAP = "/bwrap"
FAILED_TO_LAUNCH = 97
OUT_OF_MEMORY_SCORE = 900
_LINE = 3
_FIRST_FREE = 32
_FIXED = 5
_RESET_SIGNALS = (
    signal.SIGCHLD,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGPIPE,
    signal.SIGXFSZ,
)


def become_launcher(order: dict[str, Any], descriptors: list[int]) -> None:
    """Never returns. `descriptors`: the line to the server, the session's mounts and network, then groups to join."""
    try:
        line = _settle(order, descriptors)
        _serve(line)
    finally:
        os._exit(FAILED_TO_LAUNCH)


def _settle(order: dict[str, Any], descriptors: list[int]) -> socket.socket:
    line, mounts, network, *groups = descriptors
    signal.set_wakeup_fd(-1)
    for number in _RESET_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    for group in groups:
        os.write(group, b"0")
    with open("/proc/self/oom_score_adj", "wb", buffering=0) as score:
        score.write(b"%d" % OUT_OF_MEMORY_SCORE)
    syscalls.setns(network, CLONE_NEWNET)
    syscalls.setns(mounts, CLONE_NEWNS)
    os.umask(0o022)
    apply_rlimits(order["rlimits"])
    user = order["user"]
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    syscalls.drop_capabilities()
    syscalls.set_no_new_privileges()
    os.dup2(line, _LINE, inheritable=False)
    syscalls.close_from(_LINE + 1)
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=_LINE)


def _serve(line: socket.socket) -> None:
    data, descriptors = wire.receive_raw(line)
    kind, request = data[:1], data[1:]
    if kind == ON_TERMINAL:
        fcntl.ioctl(descriptors[0], termios.TIOCSCTTY, 0)
    if kind in (COMMAND, ON_TERMINAL):
        _execute(request.split(b"\0"), descriptors)
    elif kind == SEARCH:
        directory, output = descriptors
        for path in FILTERS:
            with open(path, "rb") as file:
                syscalls.load_filter(file.read())
        run_search(request, directory, output)
        os._exit(0)
    # Nothing arrived: the server let this launcher go.
    os._exit(0)


def _execute(argv: list[bytes], descriptors: list[int]) -> None:
    """`descriptors`: input, output, errors, arguments for bubblewrap, its status line; others go behind the filters."""
    filters = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in FILTERS]
    ordered = [*descriptors[:_FIXED], *filters, *descriptors[_FIXED:]]
    # First out of the way of each other, then to their places.
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE) for descriptor in ordered]
    for place, descriptor in enumerate(moved):
        os.dup2(descriptor, place, inheritable=True)
    syscalls.close_from(len(moved))
    os.execve(BWRAP, [b"bwrap", b"--args", b"3", b"--", *argv], {})
