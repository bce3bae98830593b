"""How somebody else's child ended: kernels from 6.15 on tell it through a descriptor of the process."""

import fcntl
import os
import struct

# PIDFD_GET_INFO with the 64 bytes of its first version: the mask of what is wanted first, the exit code last.
_GET_INFO = 0xC040FF0B
_WANT_EXIT = 1 << 3
_LAYOUT = "=Q52xi"


def watch_process(pid: int) -> int | None:
    """A descriptor of a process, opened while it is there; `None` where it is gone, or none can be had."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def wait_status(descriptor: int) -> int | None:
    """The status as from wait, once it has ended; `None` before, and on kernels that do not tell."""
    asked = bytearray(struct.pack(_LAYOUT, _WANT_EXIT, 0))
    try:
        fcntl.ioctl(descriptor, _GET_INFO, asked)
    except OSError:
        return None
    told, status = struct.unpack(_LAYOUT, asked)
    return int(status) if told & _WANT_EXIT else None
