"""The root of a session that starts from an image; runs in a child of the launcher process, in its small root.

Nothing in an image decides anything here. What is mounted upon is reached by the kernel beneath the image's root,
without links, and mounted by descriptor; all of it happens once, before a program of the session exists.
"""

import contextlib
import os
import signal
import stat

from portway.box.backends.namespace.stage import EMPTY, ETC, HOST, RUN, STAGE
from portway.box.backends.namespace.wire import MountOrder, OpenOrder
from portway.box.backends.types import TEMPORARY, WORKSPACE
from portway.box.isolation import syscalls
from portway.box.isolation.syscalls import (
    MOUNT_ATTR_IDMAP,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_NODEV,
    MS_NOSUID,
    RESOLVE_NO_SYMLINKS,
)
from portway.box.isolation.users import IMAGE_OWNER

_SAFE = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
_PATH = os.O_PATH | os.O_CLOEXEC
_CHANGES_BYTES, _CHANGES_INODES = 64 * 1024 * 1024, 16_384
_OWN = ("/proc", "/dev", "/run", TEMPORARY, WORKSPACE)


def mount_image(order: OpenOrder, root: str) -> None:
    """Mounts the image of an order on `root`, and the session's workspace, /tmp and further mounts in it.

    It is read-only, or has changes over it in memory that are bounded and end with the session. The kernel needs to be
    at least 5.12, for changes as root 5.19.
    """
    assert order.base is not None
    os.mkdir(root)
    image = _open_image(order.base)
    try:
        if order.writable_root or not all(_is_there(image, target, order, n) for n, target in enumerate(order.targets)):
            _mount_with_changes(order, image, root)
        else:
            _mount(image, root, _SAFE | MOUNT_ATTR_RDONLY)
    finally:
        os.close(image)
    inside = os.open(root, _PATH | os.O_DIRECTORY)
    try:
        _attach(f"{STAGE}/workspace", inside, WORKSPACE, read_only=order.workspace_read_only)
        _attach(f"{STAGE}/tmp", inside, TEMPORARY, read_only=False)
        _attach(RUN, inside, "/run", read_only=True)
        # Where names are asked for is the session's network's to say. Each image has the file.
        _attach(f"{ETC}/resolv.conf", inside, "/etc/resolv.conf", read_only=True)
        for index, target in enumerate(order.targets):
            shown = order.mounts[index] is not None
            source = f"{STAGE}/mount{index}" if shown else EMPTY
            _attach(source, inside, target, read_only=not shown or order.read_only[index])
    finally:
        os.close(inside)
    if not order.writable_root:
        _make_read_only(root)


def _open_image(base: MountOrder) -> int:
    above = os.open(HOST + base.root, _PATH | os.O_DIRECTORY)
    try:
        return syscalls.open_without_links(above, base.path, _PATH | os.O_DIRECTORY)
    finally:
        os.close(above)


def _is_there(image: int, target: str, order: OpenOrder, index: int) -> bool:
    """Whether the image has what a mount needs under its target: a directory, or a file for a file."""
    try:
        opened = syscalls.open_beneath(image, target.lstrip("/"), _PATH | os.O_NOFOLLOW, resolve=RESOLVE_NO_SYMLINKS)
    except OSError:
        return False
    try:
        return stat.S_ISDIR(os.fstat(opened).st_mode) == _wants_directory(order, index)
    finally:
        os.close(opened)


def _wants_directory(order: OpenOrder, index: int) -> bool:
    return order.mounts[index] is None or os.path.isdir(f"{STAGE}/mount{index}")


def _mount(source: int, target: str, attributes: int, *, users: int = 0) -> None:
    made = syscalls.clone_mount(source, attributes, users=users)
    try:
        place = os.open(target, _PATH | os.O_DIRECTORY)
        try:
            syscalls.move_mount(made, place)
        finally:
            os.close(place)
    finally:
        os.close(made)


def _mount_with_changes(order: OpenOrder, image: int, root: str) -> None:
    lower, changes = f"{STAGE}/image", f"{STAGE}/changes"
    for path in (lower, changes):
        os.mkdir(path)
    if order.user is not None and order.writable_root:
        users = _shown_as(order.user)
        try:
            _mount(image, lower, _SAFE | MOUNT_ATTR_RDONLY | MOUNT_ATTR_IDMAP, users=users)
        finally:
            os.close(users)
    else:
        _mount(image, lower, _SAFE | MOUNT_ATTR_RDONLY)
    data = f"size={_CHANGES_BYTES},nr_inodes={_CHANGES_INODES},mode=0755"
    syscalls.mount("changes", changes, "tmpfs", MS_NOSUID | MS_NODEV, data)
    os.mkdir(f"{changes}/upper", 0o755)
    os.mkdir(f"{changes}/work", 0o755)
    # Everybody may add to the root; what others have there, such as what is mounted upon, is not theirs to move.
    os.chmod(f"{changes}/upper", 0o1777)
    layers = f"lowerdir={lower},upperdir={changes}/upper,workdir={changes}/work"
    own_attributes = ",userxattr" if order.user is None else ""
    syscalls.mount("image", root, "overlay", MS_NOSUID | MS_NODEV, layers + own_attributes)
    inside = os.open(root, _PATH | os.O_DIRECTORY)
    try:
        for path in _OWN:
            if order.user is not None and order.writable_root:
                os.chown(path.lstrip("/"), 0, 0, dir_fd=inside, follow_symlinks=False)
        for index, target in enumerate(order.targets):
            _make_target(inside, target, _wants_directory(order, index))
    finally:
        os.close(inside)


def _make_target(inside: int, target: str, directory: bool) -> None:
    """What a mount stands on, made where it is missing. A link on the way is refused: it would lead the mount away."""
    *above, last = target.strip("/").split("/")
    parent = os.dup(inside)
    try:
        for name in above:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=parent)
            below = _below(parent, name, target)
            os.close(parent)
            parent = below
        if directory:
            with contextlib.suppress(FileExistsError):
                os.mkdir(last, 0o755, dir_fd=parent)
        else:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(last, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent))
    finally:
        os.close(parent)


def _below(parent: int, name: str, target: str) -> int:
    try:
        return syscalls.open_beneath(parent, name, os.O_PATH | os.O_DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)
    except OSError as error:
        raise OSError(error.errno, f"the image has a link or a file at {name!r}, on the way to {target}") from None


def _attach(source: str, inside: int, target: str, *, read_only: bool) -> None:
    opened = os.open(source, _PATH)
    try:
        made = syscalls.clone_mount(opened, _SAFE | (MOUNT_ATTR_RDONLY if read_only else 0), whole=True)
    finally:
        os.close(opened)
    try:
        try:
            place = syscalls.open_beneath(
                inside, target.lstrip("/"), _PATH | os.O_NOFOLLOW, resolve=RESOLVE_NO_SYMLINKS
            )
        except OSError as error:
            raise OSError(error.errno, f"the image has a link or a file on the way to {target}") from None
        try:
            syscalls.move_mount(made, place)
        finally:
            os.close(place)
    finally:
        os.close(made)


def _make_read_only(root: str) -> None:
    """The root alone; what is mounted in it stays as it is."""
    flags = syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY | MS_NOSUID | MS_NODEV
    if _is_overlay(root):
        syscalls.mount("", root, "", flags)


def _is_overlay(root: str) -> bool:
    return not os.statvfs(root).f_flag & os.ST_RDONLY


def _shown_as(user: int) -> int:
    """A user namespace whose map shows the owner of images as `user`, as a descriptor."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            syscalls.unshare(syscalls.CLONE_NEWUSER)
            os.write(writing, b"1")
            signal.pause()
        finally:
            os._exit(0)
    os.close(writing)
    try:
        if not os.read(reading, 1):
            raise OSError(os.EX_OSERR, "no user namespace can be made to show a writable image in")
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{child}/{name}", "wb", buffering=0) as file:
                file.write(f"{IMAGE_OWNER} {user} 1".encode())
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
