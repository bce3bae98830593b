"""What the launcher process does before it begins and after everything ended."""

import os

from portway.box.isolation import syscalls
from portway.box.isolation.syscalls import CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER


def take_namespaces(*, root: bool) -> None:
    """Mounts and processes of its own; as a plain user with a user namespace that allows it."""
    user, group = os.geteuid(), os.getegid()
    syscalls.unshare(CLONE_NEWNS | CLONE_NEWPID | (0 if root else CLONE_NEWUSER))
    if not root:
        for name, content in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "wb", buffering=0) as file:
                file.write(content.encode())


def remove_groups(parent: int, name: str) -> bool:
    """Removes a control group with all that are below it. Whether nothing of it is left."""
    try:
        group = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except (NotADirectoryError, FileNotFoundError):  # one of the files that every group has, or gone
        return True
    try:
        clean = all([remove_groups(group, child) for child in os.listdir(group)])
    finally:
        os.close(group)
    try:
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return clean
