"""Removing a directory that a stranger filled: however deep it is, whatever its modes say, without following links."""

import contextlib
import os
import secrets
import stat
from pathlib import Path

import structlog

_OWN = 0o700
_AT_ONCE = 4096


def remove_whole(path: Path) -> None:
    """Removes `path` with everything below. What the kernel does not let go is logged and left for the next time.

    A tree can be nested deeper than a recursion or open descriptors reach: directories are first moved to the top, so
    that nothing is ever further down than one step.
    """
    try:
        top = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        readable = _reopen(top)
        try:
            _empty(readable)
        finally:
            os.close(readable)
        os.rmdir(path)
    except OSError as error:
        structlog.get_logger().error("a directory could not be removed", path=str(path), error=error.strerror)
    finally:
        os.close(top)


def _empty(top: int) -> None:
    mark = secrets.token_hex(8)
    moved = 0
    while names := _some_names(top):
        before = moved
        gone = 0
        for name in names:
            if _is_directory(top, name):
                moved += _raise_up(top, name, f".{mark}.{moved}")
                with contextlib.suppress(OSError):
                    os.rmdir(name, dir_fd=top)
                    gone += 1
            else:
                os.unlink(name, dir_fd=top)
                gone += 1
        if not gone and moved == before:
            raise OSError(0, "its directories cannot be emptied")


def _raise_up(top: int, name: str, prefix: str) -> int:
    """Removes the files of a directory and moves its directories to the top. Returns how many were moved."""
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    try:
        directory = _reopen(handle)
    finally:
        os.close(handle)
    moved = 0
    try:
        while names := _some_names(directory):
            for child in names:
                if _is_directory(directory, child):
                    _own(directory, child)
                    os.rename(child, f"{prefix}.{moved}", src_dir_fd=directory, dst_dir_fd=top)
                    moved += 1
                else:
                    os.unlink(child, dir_fd=directory)
    finally:
        os.close(directory)
    return moved


def _some_names(directory: int) -> list[str]:
    """At most so many at once: a directory can hold more names than memory."""
    names: list[str] = []
    with os.scandir(directory) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) == _AT_ONCE:
                break
    return names


def _is_directory(parent: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def _own(parent: int, name: str) -> None:
    """Opens a directory to its owner again: moving and emptying take the right to write into it."""
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{handle}", _OWN)
    finally:
        os.close(handle)


def _reopen(handle: int) -> int:
    """A directory for reading, whatever its modes were."""
    os.chmod(f"/proc/self/fd/{handle}", _OWN)
    return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
