"""Mounts that exist before they have a place: made in one mount namespace, put in place in another.

The kernel's newer calls for mounts (Linux 5.12). Nothing in between can be seen or raced by name.
"""

import ctypes
import os
import struct

from portway.box.isolation import syscalls

_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT, _SYS_MOUNT_SETATTR = (
    428,
    429,
    430,
    431,
    432,
    442,
)
_OPEN_TREE_CLONE = 1
_AT_EMPTY_PATH, _AT_RECURSIVE, _AT_FDCWD = 0x1000, 0x8000, -100
_MOVE_FROM_EMPTY, _MOVE_TO_EMPTY, _MOVE_BENEATH = 0x04, 0x40, 0x200
_FSOPEN_CLOEXEC, _FSMOUNT_CLOEXEC = 1, 1
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
READ_ONLY, NOSUID, NODEV, NOATIME = 0x01, 0x02, 0x04, 0x10

_libc = ctypes.CDLL(None, use_errno=True)


def _call(what: str, number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


def new_disk(kind: str, device: str, options: dict[str, str], attributes: int) -> int:
    """A mount of the file system on a device, as a descriptor. It is gone when that is closed without a place."""
    context = _call("fsopen", _SYS_FSOPEN, kind.encode(), _FSOPEN_CLOEXEC)
    try:
        for name, value in {"source": device, **options}.items():
            if value:
                _call(f"mount option {name}", _SYS_FSCONFIG, context, _SET_STRING, name.encode(), value.encode(), 0)
            else:
                _call(f"mount option {name}", _SYS_FSCONFIG, context, _SET_FLAG, name.encode(), None, 0)
        _call(f"mount of {kind}", _SYS_FSCONFIG, context, _CREATE, None, None, 0)
        return _call("fsmount", _SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes)
    finally:
        os.close(context)


def cover_read_only(path: str) -> None:
    """Puts a copy of a mount, with all that is mounted below, over itself so that nothing can be written to it."""
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    made = _call("open_tree", _SYS_OPEN_TREE, _AT_FDCWD, path.encode(), flags)
    place = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        settings = struct.pack("=QQQQ", READ_ONLY, 0, 0, 0)
        how = _AT_EMPTY_PATH | _AT_RECURSIVE
        _call("mount_setattr", _SYS_MOUNT_SETATTR, made, b"", how, settings, len(settings))
        put(made, place)
    finally:
        os.close(place)
        os.close(made)


def copy_of(directory: int, attributes: int, *, cleared: int = 0) -> int:
    """A mount that shows an open directory, without what is mounted further below, as a descriptor.

    `cleared` are attributes that it has not, where the one that is copied has.
    """
    made = _call("open_tree", _SYS_OPEN_TREE, directory, b"", _OPEN_TREE_CLONE | _AT_EMPTY_PATH | os.O_CLOEXEC)
    try:
        settings = struct.pack("=QQQQ", attributes, cleared, syscalls.MS_PRIVATE, 0)
        _call("mount_setattr", _SYS_MOUNT_SETATTR, made, b"", _AT_EMPTY_PATH, settings, len(settings))
    except OSError:
        os.close(made)
        raise
    return made


def put(mount: int, place: int, *, beneath: bool = False) -> None:
    """Gives a mount its place: on the open directory `place` of the mount namespace of this process.

    `beneath` (Linux 6.5): under the mount whose root `place` is, and so seen by nobody until that is gone.
    """
    how = _MOVE_FROM_EMPTY | _MOVE_TO_EMPTY | (_MOVE_BENEATH if beneath else 0)
    _call("move_mount", _SYS_MOVE_MOUNT, mount, b"", place, b"", how)
