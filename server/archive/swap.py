"""Putting a folder in the place of another in one step."""

import ctypes
import errno
import os
from pathlib import Path

from portway.server.storage_engine.location import sync_folder

_AT_FDCWD = -100
_EXCHANGE = 2
_NOT_HERE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


def exchange(one: Path, other: Path) -> bool:
    """Each gets the other's name, at once; false where the filesystem cannot. Raises OSError."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE):
        code = ctypes.get_errno()
        if code in _NOT_HERE:
            return False
        raise OSError(code, os.strerror(code), str(one))
    sync_folder(one.parent)
    return True


def put_in_place(new: Path, target: Path, aside: Path) -> None:
    """`new` becomes `target`; what was there before becomes `aside`. All three lie in one folder.

    In one step where the filesystem can; otherwise a kill in the middle leaves the old folder under `aside`.
    """
    new.rename(aside)
    if exchange(aside, target):
        return
    aside.rename(new)
    target.rename(aside)
    new.rename(target)
    sync_folder(target.parent)
