"""Holding blobs in place while somebody copies them.

A backup reads the rows first and the bytes afterwards. Meanwhile nothing may be removed, whatever the reaper finds:
a lock that the kernel gives back when its holder dies, so that a killed backup holds up nobody.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME = "pin"


@contextmanager
def pinned(blobs: Path) -> Iterator[None]:
    """No blob below the folder is removed inside the block. Any number of holders at once."""
    descriptor = _open(blobs)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def unpinned(blobs: Path) -> Iterator[bool]:
    """True where blobs may be removed inside the block; false where somebody holds them."""
    descriptor = _open(blobs)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def _open(blobs: Path) -> int:
    return os.open(blobs / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
