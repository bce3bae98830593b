"""Programs of an image that the box itself makes use of, inside its own sandboxes only."""

import os
import stat
from pathlib import Path

from portway.box.isolation.syscalls import open_in_root

# util-linux and busybox both know `-c`.
_LEADERS = ("usr/bin/setsid", "bin/setsid")


def leader_in(root: Path) -> tuple[str, ...]:
    """What makes a program the leader of a session that owns its terminal; empty where the image has nothing for it."""
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = next((path for path in _LEADERS if _is_program(directory, path)), None)
    finally:
        os.close(directory)
    return (f"/{found}", "-c") if found is not None else ()


def _is_program(root: int, path: str) -> bool:
    try:
        opened = open_in_root(root, path, os.O_PATH)
    except OSError:
        return False
    try:
        mode = os.fstat(opened).st_mode
    finally:
        os.close(opened)
    return stat.S_ISREG(mode) and bool(mode & 0o111)
