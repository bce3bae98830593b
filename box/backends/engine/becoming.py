"""The last steps of a process in a container before it is a command, or a file search: its user, limits and filters."""

import errno
import fcntl
import json
import os
import signal
import termios
from dataclasses import dataclass
from typing import Any

from portway.box.files.search import run_search
from portway.box.isolation import syscalls
from portway.box.isolation.limits import apply_rlimits

OUT_OF_MEMORY_SCORE = 900
# What a shell answers for a program that it cannot find, and for one that it cannot execute.
NOT_FOUND, NOT_EXECUTABLE, NOTHING_RAN = 127, 126, 125
# What is written to the last of a command's descriptors where it never ran.
NO_DIRECTORY, NO_PROGRAM = b"directory", b"program"
_FIRST_FREE = 64
_FAILURE = 3
_RESET_SIGNALS = (
    signal.SIGCHLD,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGPIPE,
    signal.SIGXFSZ,
)


@dataclass(frozen=True, slots=True)
class Place:
    """`content` describes what is to run; `own` are its descriptors; `groups` are to be joined by writing `0`."""

    content: int
    own: tuple[int, ...]
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Means:
    """What the keeper has for every command: the filters, and the /proc that can be written to."""

    filters: tuple[bytes, bytes]
    proc: int


def become(kind: str, place: Place, means: Means) -> None:
    """Never returns."""
    try:
        os.setsid()
        for number in _RESET_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        order = _read(place.content)
        for group in place.groups:
            os.write(group, b"0")
        _take_user(order, means.proc)
        if kind == "search":
            directory, output = _settle(place.own)
            _load(means.filters)
            run_search(bytes.fromhex(order["request"]), directory, output)
            os._exit(0)
        _execute(order, place.own, means.filters)
    finally:
        os._exit(NOTHING_RAN)


def _read(content: int) -> dict[str, Any]:
    with open(content, "rb", closefd=False) as file:
        order: dict[str, Any] = json.loads(file.read())
    return order


def _take_user(order: dict[str, Any], proc: int) -> None:
    score = os.open("self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
    os.write(score, b"%d" % OUT_OF_MEMORY_SCORE)
    os.umask(0o022)
    apply_rlimits(order["rlimits"])
    user = order["user"]
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    syscalls.drop_capabilities()
    syscalls.set_no_new_privileges()


def _replace(argv: list[str], env: dict[str, str]) -> None:
    """Becomes the program, looked for as a shell does; a script without a first line is run by the shell."""
    reason: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    folders = [""] if "/" in argv[0] else env.get("PATH", os.defpath).split(":")
    for folder in folders:
        path = os.path.join(folder, argv[0])
        try:
            os.execve(path, argv, env)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                os.execve("/bin/sh", ["/bin/sh", path, *argv[1:]], env)
            # One that may be executed can still come.
            reason = error
    raise reason


def _settle(own: tuple[int, ...]) -> range:
    """Puts descriptors to the first numbers and closes all others: lines to the box stay with the minder."""
    # First out of the way of each other, then to their places.
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE) for descriptor in own]
    for number, descriptor in enumerate(moved):
        os.dup2(descriptor, number, inheritable=True)
    syscalls.close_from(len(moved))
    return range(len(moved))


def _load(filters: tuple[bytes, bytes]) -> None:
    for program in filters:
        syscalls.load_filter(program)


def _execute(order: dict[str, Any], own: tuple[int, ...], filters: tuple[bytes, bytes]) -> None:
    """`own`: input, output, errors, and where to say that nothing ran."""
    _settle(own)
    os.set_inheritable(_FAILURE, False)
    if order["terminal"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    try:
        os.chdir(order["directory"])
    except OSError:
        os.write(_FAILURE, NO_DIRECTORY)
        os._exit(NOTHING_RAN)
    _load(filters)
    argv, env = order["argv"], order["env"]
    try:
        _replace(argv, env)
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        os.write(2, os.fsencode(f"{argv[0]}: {error.strerror}\n"))
        os.write(_FAILURE, NO_PROGRAM)
        os._exit(NOT_FOUND if missing else NOT_EXECUTABLE)
