"""What Linux offers for processes that must not outlive or outgrow their parent."""

import ctypes
import os
import signal
from collections.abc import Sequence
from pathlib import Path

_SET_PDEATHSIG = 1
_SET_NAME = 15
_SET_CHILD_SUBREAPER = 36
_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int | bytes) -> None:
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def die_with_parent(parent: int, number: signal.Signals) -> None:
    """This process gets `number` when `parent` ends; at once if it has ended already."""
    _prctl(_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def adopt_orphans() -> None:
    """Descendants whose parent ends become children of this process instead of init's."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def forbid_new_privileges() -> None:
    _prctl(_SET_NO_NEW_PRIVS, 1)


def set_name(name: str) -> None:
    """The name that `ps` and `top` show; 15 bytes are kept."""
    _prctl(_SET_NAME, name.encode()[:15])


def children_of_this_process() -> Sequence[int]:
    """Also those that were adopted."""
    try:
        return _listed_children()
    except FileNotFoundError:
        # A kernel without the list: every process is looked at.
        return _searched_children()


def _listed_children() -> Sequence[int]:
    return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


def _searched_children() -> Sequence[int]:
    parent = str(os.getpid())
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[1] == parent:
                found.append(int(entry.name))
    return found


def environment_of(pid: int) -> bytes:
    """The environment that a process began with; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
