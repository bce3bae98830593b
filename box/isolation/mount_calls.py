"""Mounts as descriptors: taken in one mount namespace, put in place in another."""

import ctypes
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)
# The same on every architecture.
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_AT_EMPTY_PATH = 0x1000
_MOVE_FROM_EMPTY_PATH, _MOVE_TO_EMPTY_PATH = 0x04, 0x40
_READ_ONLY, _NO_SUID, _NO_DEVICES = 0x01, 0x02, 0x04
_UMOUNT_NOFOLLOW, _MNT_DETACH = 8, 2


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def clone_mount(directory: int, *, read_only: bool) -> int:
    """An open directory as a mount of its own that is nowhere yet, without devices and set-id programs."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_EMPTY_PATH
    clone = _checked(_libc.syscall(_SYS_OPEN_TREE, directory, b"", flags), "open_tree")
    try:
        restrict_mount(clone, read_only=read_only)
    except BaseException:
        os.close(clone)
        raise
    return clone


def restrict_mount(mount: int, *, read_only: bool) -> None:
    attributes = _NO_SUID | _NO_DEVICES | (_READ_ONLY if read_only else 0)
    described = struct.pack("=QQQQ", attributes, 0, 0, 0)
    call = (_SYS_MOUNT_SETATTR, mount, b"", _AT_EMPTY_PATH, described, len(described))
    _checked(_libc.syscall(*call), "mount_setattr")


def place_mount(mount: int, directory: int) -> None:
    """Mounts it on an open directory."""
    flags = _MOVE_FROM_EMPTY_PATH | _MOVE_TO_EMPTY_PATH
    _checked(_libc.syscall(_SYS_MOVE_MOUNT, mount, b"", directory, b"", flags), "move_mount")


def detach(path: str) -> None:
    """Takes away what is mounted at a path; who has it open keeps it."""
    _checked(_libc.umount2(os.fsencode(path), _UMOUNT_NOFOLLOW | _MNT_DETACH), f"umount {path}")
