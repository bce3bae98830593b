"""Putting a session's mounts together; runs in a child of the launcher process, in its small root."""

import contextlib
import errno
import fcntl
import os
import socket
import stat
import struct

from portway.box.backends.namespace.image_root import mount_image
from portway.box.backends.namespace.skill_mounts import FOLDER, clone_skills, show_skills
from portway.box.backends.namespace.stage import HOST, RUN, SOCKETS_STAGED, STAGE, TOP_LEVEL
from portway.box.backends.namespace.wire import MountOrder, OpenOrder, SkillsOrder
from portway.box.backends.types import Steering
from portway.box.isolation import syscalls
from portway.box.isolation.loop_devices import attach_loop
from portway.box.isolation.syscalls import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    MS_BIND,
    MS_NOATIME,
    MS_NODEV,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
)
from portway.box.network.steering import steer

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_INTERFACE = struct.Struct("16sh22x")
_TEMPORARY_INODES = 16_384
_ROOT_BYTES = 64 * 1024 * 1024


def open_session(order: OpenOrder, image: int | None) -> list[int]:
    """Puts the mounts of a session together in a mount namespace of their own.

    Returns descriptors: mount namespace, network namespace, workspace, temporary, each extra mount, and the skills
    where there are any. Everything is gone when they are closed and no process is left inside: nothing has to be
    taken away, whatever ends how.
    """
    syscalls.unshare(CLONE_NEWNS)
    syscalls.mount("none", "/", "", MS_REC | MS_PRIVATE)
    syscalls.mount("portway-box", STAGE, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,nr_inodes=1k,mode=0711")
    for name in ("workspace", "tmp"):
        os.mkdir(f"{STAGE}/{name}", 0o700)
    for path in (RUN, SOCKETS_STAGED):
        os.mkdir(path)
        os.chmod(path, 0o755)
    _mount_workspace(order, image, f"{STAGE}/workspace")
    _mount_memory(f"{STAGE}/tmp", order.temporary_bytes, _TEMPORARY_INODES, 0o1777, order.user)
    if order.writable_root and order.base is None:
        _make_root(f"{STAGE}/root", order.targets)
    shown = [f"{STAGE}/workspace", f"{STAGE}/tmp"]
    for index, mount in enumerate(order.mounts):
        if mount is not None:
            shown.append(f"{STAGE}/mount{index}")
            _bind(mount, shown[-1], whole=order.user is None)
    opened = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in shown]
    if order.skills:
        skills = SkillsOrder(order.request, 0, order.user, order.skills)
        opened.append(show_skills(skills, clone_skills(order.skills), strict=False))
    if order.base is not None:
        mount_image(order, f"{STAGE}/root")
    # The machine itself is out of reach from here on.
    syscalls.unmount(HOST)
    return [os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC), _new_network(order.steering), *opened]


def _make_root(root: str, targets: tuple[str, ...]) -> None:
    """A root that commands may add to. What mounts stand on is held in place by them (see `arguments`)."""
    os.mkdir(root)
    _mount_memory(root, _ROOT_BYTES, _TEMPORARY_INODES, 0o1777, None)
    system = [f"/{name}" for name in TOP_LEVEL]
    for path in ("/usr", "/etc", "/dev", "/proc", "/tmp", "/workspace", "/run", "/var", *system, *targets):
        os.makedirs(root + path, exist_ok=True)
    os.symlink("/tmp", f"{root}/var/tmp")


def _mount_workspace(order: OpenOrder, image: int | None, target: str) -> None:
    if order.workspace == "image" and image is not None:
        device = attach_loop(image, f"{HOST}/dev")
        try:
            flags = MS_NOSUID | MS_NODEV | MS_NOATIME
            # The name is what the session's own list of mounts shows.
            os.symlink(f"/proc/self/fd/{device}", f"{STAGE}/disk")
            syscalls.mount(f"{STAGE}/disk", target, "ext4", flags, "errors=remount-ro,discard")
        finally:
            os.close(device)
        with contextlib.suppress(OSError):
            os.rmdir(f"{target}/lost+found")
    elif order.workspace == "memory":
        _mount_memory(target, order.disk_bytes, order.inodes, 0o700, order.user)
    elif order.folder is not None:
        _bind(order.folder, target, whole=order.user is None)
        return
    if order.user is not None:
        _give(target, order.user)
    os.chmod(target, 0o700)


def _give(directory: str, user: int) -> None:
    """Makes a workspace the user's; one that comes back with another user is gone through file by file."""
    owner = os.stat(directory).st_uid
    if owner not in (0, user):
        for path, names, files, parent in os.fwalk(directory, follow_symlinks=False):
            parent_is_top = path == directory
            for name in (*names, *files):
                if parent_is_top and name == FOLDER:
                    continue  # stays this side's, so that it is known again
                os.chown(name, user, user, dir_fd=parent, follow_symlinks=False)
    os.chown(directory, user, user)


def _mount_memory(target: str, size: int, inodes: int, mode: int, user: int | None) -> None:
    owner = "" if user is None else f",uid={user},gid={user}"
    data = f"size={size},nr_inodes={inodes},mode={mode:o}{owner}"
    syscalls.mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, data)


def _bind(order: MountOrder, target: str, *, whole: bool) -> None:
    """Mounts a directory or file of the machine. The kernel walks there without links, its allowed root included.

    Whoever may write above that root could otherwise put a link in its place after it was judged.
    """
    machine = os.open(HOST, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        path = os.path.normpath(f"{order.root}/{order.path}").lstrip("/")
        source = syscalls.open_without_links(machine, path or ".", os.O_PATH)
    finally:
        os.close(machine)
    try:
        kind = os.fstat(source).st_mode
        if stat.S_ISDIR(kind):
            os.makedirs(target, exist_ok=True)
        elif stat.S_ISREG(kind):
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        else:
            raise PermissionError(errno.EPERM, "a mount's source became something else than a directory or a file")
        # What is mounted further below is left out, but where the kernel does not let a plain user part them.
        syscalls.mount(f"/proc/self/fd/{source}", target, "", MS_BIND | (MS_REC if whole else 0))
    finally:
        os.close(source)


def _new_network(steering: Steering | None) -> int:
    """A network namespace with nothing but its own loopback, as a descriptor."""
    syscalls.unshare(CLONE_NEWNET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        asked = fcntl.ioctl(control, _SIOCGIFFLAGS, _INTERFACE.pack(b"lo", 0))
        _name, flags = _INTERFACE.unpack(asked)
        fcntl.ioctl(control, _SIOCSIFFLAGS, _INTERFACE.pack(b"lo", flags | _IFF_UP))
    if steering is not None:
        steer(steering)
    return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
