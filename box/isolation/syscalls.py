"""The kernel calls that Python has no wrapper for, through libc. Each raises `OSError` with the kernel's reason."""

import ctypes
import os
import platform
import posixpath
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

_libc = ctypes.CDLL(None, use_errno=True)
_MACHINE = platform.machine()

_SYS_OPENAT2 = 437
_SYS_CLOSE_RANGE = 436
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219}
_SYS_CAPSET = {"x86_64": 126, "aarch64": 91}

_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MNT_DETACH = 2

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_IDMAP = 0x00100000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 0x1, os.O_CLOEXEC
_AT_EMPTY_PATH, _AT_RECURSIVE = 0x1000, 0x8000
_MOVE_MOUNT_F_EMPTY_PATH, _MOVE_MOUNT_T_EMPTY_PATH = 0x4, 0x40

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
_RESOLVE_IN_ROOT = 0x10

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_INSTRUCTION_BYTES = 8
_KEYCTL_JOIN_SESSION_KEYRING = 1
_CAPABILITY_VERSION_3 = 0x20080522
_LAST_POSSIBLE_CAPABILITY = 63
_EINVAL = 22


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_: ClassVar = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def open_beneath(directory: int, path: str, flags: int, mode: int = 0, *, resolve: int = 0) -> int:
    """`openat2`: opens `path` below the open directory, and nowhere else, however it is spelled or raced.

    Links inside may be followed unless `resolve` adds RESOLVE_NO_SYMLINKS; magic links and other mounts never are.
    Raises `OSError` EXDEV where the path leads out, ELOOP where a link is refused.
    """
    restrictions = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV | resolve
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode if flags & (os.O_CREAT | os.O_TMPFILE) else 0, restrictions)
    return _openat2(directory, path, how)


def open_without_links(directory: int, path: str, flags: int) -> int:
    """Opens `path` below `directory` where no part of it is a link; mounts are crossed, as a host path needs."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS)
    return _openat2(directory, path, how)


def open_in_root(directory: int, path: str, flags: int) -> int:
    """Opens `path` as a program would whose root is the open directory: links lead wherever they would for it."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV)
    return _openat2(directory, path, how)


def _openat2(directory: int, path: str, how: bytes) -> int:
    # EAGAIN: a rename raced with the walk and the kernel cannot vouch for the result; a few tries settle it.
    for attempt in range(32):
        try:
            return _checked(
                _libc.syscall(_SYS_OPENAT2, directory, os.fsencode(path), how, len(how)), f"openat2 {path!r}"
            )
        except BlockingIOError:
            if attempt == 31:
                raise
    raise AssertionError("unreachable")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    result = _libc.mount(
        os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), os.fsencode(data) or None
    )
    _checked(result, f"mount {kind or 'bind'} {target}")


def clone_mount(source: int, attributes: int, *, whole: bool = False, users: int = 0) -> int:
    """A copy of the mount of an open directory or file that is mounted nowhere yet, with further attributes.

    `whole`: with what is mounted below. `users`: with MOUNT_ATTR_IDMAP, a user namespace whose map shows owners.
    """
    below = _AT_RECURSIVE if whole else 0
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_EMPTY_PATH | below
    made = _checked(_libc.syscall(_SYS_OPEN_TREE, source, b"", ctypes.c_uint(flags)), "open_tree")
    try:
        set_mount_attributes(made, attributes, whole=whole, users=users)
    except OSError:
        os.close(made)
        raise
    return made


def set_mount_attributes(mounted: int, attributes: int, *, whole: bool = False, users: int = 0) -> None:
    """Adds attributes to the mount of an open directory."""
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if whole else 0)
    wanted = struct.pack("=QQQQ", attributes, 0, 0, users)
    _checked(
        _libc.syscall(_SYS_MOUNT_SETATTR, mounted, b"", ctypes.c_uint(flags), wanted, ctypes.c_size_t(len(wanted))),
        "mount_setattr",
    )


def move_mount(mounted: int, target: int) -> None:
    """Puts a copy of `clone_mount` on an open directory or file."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    _checked(_libc.syscall(_SYS_MOVE_MOUNT, mounted, b"", target, b"", ctypes.c_uint(flags)), "move_mount")


def unmount(target: str, flags: int = MNT_DETACH) -> None:
    _checked(_libc.umount2(os.fsencode(target), flags), f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    _checked(
        _libc.syscall(_SYS_PIVOT_ROOT[_MACHINE], os.fsencode(new_root), os.fsencode(put_old)), f"pivot_root {new_root}"
    )


def unshare(flags: int) -> None:
    _checked(_libc.unshare(flags), "unshare")


def setns(namespace: int, kind: int) -> None:
    _checked(_libc.setns(namespace, kind), "setns")


def close_from(first: int) -> None:
    """Closes every descriptor from `first` on."""
    _checked(_libc.syscall(_SYS_CLOSE_RANGE, first, ctypes.c_uint(0xFFFFFFFF), 0), "close_range")


def set_parent_death_signal(number: int) -> None:
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0), "prctl PDEATHSIG")


def set_child_subreaper() -> None:
    _checked(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl CHILD_SUBREAPER")


def set_no_new_privileges() -> None:
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl NO_NEW_PRIVS")


def load_filter(program: bytes) -> None:
    """Puts this process under a system call filter, for good. Needs `set_no_new_privileges` before."""
    instructions = ctypes.create_string_buffer(program, len(program))
    described = _Program(len(program) // _INSTRUCTION_BYTES, ctypes.addressof(instructions))
    _checked(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(described), 0, 0), "prctl SECCOMP")


def sync_file_system(directory: int) -> None:
    """Returns when everything that was written to the file system of an open directory is on its disk."""
    _checked(_libc.syncfs(directory), "syncfs")


def set_not_dumpable() -> None:
    _checked(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl DUMPABLE")


def drop_bounding_set() -> None:
    """No program started from here on gains a capability, whatever its file says."""
    for capability in range(_LAST_POSSIBLE_CAPABILITY + 1):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            number = ctypes.get_errno()
            if number == _EINVAL:  # past the last one that this kernel knows
                return
            raise OSError(number, f"prctl CAPBSET_DROP {capability}: {os.strerror(number)}")


def drop_capabilities() -> None:
    """Empties the effective, permitted and inheritable sets."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _checked(_libc.syscall(_SYS_CAPSET[_MACHINE], header, bytes(24)), "capset")


def limit_capabilities(kept: int) -> None:
    """Leaves effective and permitted only those of the bit mask `kept`, and nothing inheritable."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    sets = struct.pack("=6I", low, low, 0, high, high, 0)
    _checked(_libc.syscall(_SYS_CAPSET[_MACHINE], header, sets), "capset")


def effective_capabilities() -> int:
    """The bit mask of this process, as in `CapEff` of its status file."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0


def join_new_keyring() -> None:
    """A session keyring of its own: keys that the caller's login session holds are not possessed any more."""
    _libc.syscall(_SYS_KEYCTL[_MACHINE], _KEYCTL_JOIN_SESSION_KEYRING, None)


def is_directory(base: int, path: str, user: int | None) -> bool:
    """Whether `path` beneath `base` is a directory that `user` (`None`: this process's) may enter."""
    owner = os.geteuid() if user is None else user
    group = os.getegid() if user is None else user
    with files_as(owner, group):
        try:
            os.close(open_beneath(base, posixpath.join(path, "."), os.O_PATH | os.O_DIRECTORY))
        except OSError:
            return False
    return True


@contextmanager
def files_as(user: int, group: int) -> Iterator[None]:
    """File access of this thread (and no other) happens as `user`, without root's rights over files.

    Used on threads that belong to it alone; the block must not wait for another thread's work.
    """
    _libc.setfsgid(group)
    _libc.setfsuid(user)
    try:
        # The call has no error value: asking for an impossible id only tells the current one.
        if _libc.setfsuid(-1) != user:
            raise PermissionError(f"file access cannot be handed to user {user}")
        yield
    finally:
        _libc.setfsuid(os.geteuid())
        _libc.setfsgid(os.getegid())
