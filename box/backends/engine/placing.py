"""Puts a session's mounts into its container, as root, from a process of its own that is gone afterwards.

The engine would look paths up by name, after the box judged them. Here they are walked once, by the kernel and without
links, and what was found is what is mounted; a workspace never appears among the machine's own mounts.
"""

import errno
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from portway.box.backends.engine.keeper import FOLDER
from portway.box.backends.engine.kit import INSIDE, PRELOAD
from portway.box.backends.engine.skill_places import show_in_container
from portway.box.backends.namespace import wire
from portway.box.backends.namespace.session_skills import NO_ROOM
from portway.box.backends.namespace.skill_mounts import FOLDER as SKILLS_FOLDER
from portway.box.backends.namespace.skill_mounts import clone_skills
from portway.box.backends.namespace.wire import SkillsOrder
from portway.box.isolation import mount_objects, syscalls
from portway.box.isolation.loop_devices import attach_loop
from portway.box.isolation.syscalls import CLONE_NEWNS
from portway.rpc.errors import LimitExceeded, Unavailable

SECONDS = 30.0
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from portway.box.backends.engine.placing import main; main(int(sys.argv[2]))"
)
_NAMES, _NAMES_ARE_HERE = "/etc/resolv.conf", b"nameserver 127.0.0.1\n"
_FLAGS = mount_objects.NOSUID | mount_objects.NODEV


@dataclass(frozen=True, slots=True)
class Placing:
    """One mount: `path` below `root` on the machine (for the workspace's own disk both are empty), and its place."""

    root: str
    path: str
    target: str
    writable: bool


def place(mounts: list[Placing], namespace: int, image: int | None, user: int, skills: SkillsOrder | None) -> list[int]:
    """Blocking. `namespace` is the container's mount namespace, `image` the workspace's disk.

    Returns what shows the skills, open, where there are any. Raises `Unavailable`.
    """
    fields = [[mount.root, mount.path, mount.target, mount.writable] for mount in mounts]
    message = {"mounts": fields, "user": user, "shown": skills.to_message() if skills is not None else None}
    return _have_done(message, [namespace] if image is None else [namespace, image])


def show(skills: SkillsOrder, namespace: int) -> int:
    """Blocking. Shows other skills; returns what shows them, open. Raises `LimitExceeded`, `Unavailable`."""
    (shown,) = _have_done({"shown": skills.to_message()}, [namespace])
    return shown


def _have_done(message: dict[str, Any], descriptors: list[int]) -> list[int]:
    ours, theirs = wire.new_line()
    with ours:
        with theirs:
            process = _execute(theirs.fileno())
        try:
            ours.settimeout(SECONDS)
            wire.send(ours, message, descriptors)
            answer = wire.receive(ours)
        except TimeoutError:
            process.kill()
            raise Unavailable(f"a session's mounts were not put in place within {SECONDS:.0f} s") from None
        finally:
            process.wait()
    if answer is None:
        raise Unavailable("a session's mounts were not put in place: the process for it ended without a word")
    said, opened = answer
    if said["errno"] in (errno.ENOSPC, errno.EDQUOT):
        raise LimitExceeded(NO_ROOM)
    if said["error"]:
        raise Unavailable(f"a session's mounts were not put in place: {said['error']}")
    return opened


def _execute(line: int) -> "subprocess.Popen[bytes]":
    paths = json.dumps([path for path in sys.path if path])
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _PROGRAM, paths, str(line)],
        env={},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[line],
        cwd="/",
    )


def main(descriptor: int) -> None:
    syscalls.set_parent_death_signal(9)
    os.umask(0o022)
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=descriptor)
    received = wire.receive(line)
    if received is None:
        return
    order, descriptors = received
    try:
        if "mounts" in order:
            opened = _place_all(order, *descriptors)
        else:
            skills = SkillsOrder.from_message(order["shown"])
            clones = clone_skills(skills.skills, machine="")
            syscalls.setns(descriptors[0], CLONE_NEWNS)
            opened = [show_in_container(skills, clones, strict=True)]
        wire.send(line, {"error": "", "errno": 0}, opened)
    except OSError as error:
        wire.send(line, {"error": str(error), "errno": error.errno})


def _place_all(order: dict[str, Any], namespace: int, image: int | None = None) -> list[int]:
    mounts = [Placing(*fields) for fields in order["mounts"]]
    user = order["user"]
    # All of it is found before the machine is left.
    made = [(_disk(image, user) if not mount.root else _directory(mount), mount) for mount in mounts]
    skills = SkillsOrder.from_message(order["shown"]) if order["shown"] is not None else None
    clones = clone_skills(skills.skills, machine="") if skills is not None else []
    syscalls.setns(namespace, CLONE_NEWNS)
    for mounted, mount in made:
        place = _make_place(mount.target, user)
        try:
            mount_objects.put(mounted, place)
        finally:
            os.close(place)
    _name_own_loopback()
    # What a plain user may write below it are the scores and memories of others of its session. The keeper has the old.
    mount_objects.cover_read_only("/proc")
    # The keeper runs by now and has loaded all that it needs. Nothing of the box is left for commands to look at.
    for path in (INSIDE, FOLDER, PRELOAD):
        syscalls.unmount(path)
    return [show_in_container(skills, clones, strict=False)] if skills is not None else []


def _name_own_loopback() -> None:
    """Docker is told where names are answered. Podman shows the machine's nameservers where there is no network."""
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        place = syscalls.open_without_links(root, _NAMES.lstrip("/"), os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return  # the image has none, or a link: then no engine puts anything there either
    finally:
        os.close(root)
    try:
        if os.read(place, len(_NAMES_ARE_HERE) + 1) == _NAMES_ARE_HERE:
            return
        memory = mount_objects.new_disk("tmpfs", "names", {"size": "4k", "nr_inodes": "2", "mode": "0755"}, _FLAGS)
        with os.fdopen(os.open("names", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644, dir_fd=memory), "wb") as file:
            file.write(_NAMES_ARE_HERE)
        file_itself = os.open("names", os.O_PATH | os.O_CLOEXEC, dir_fd=memory)
        mount_objects.put(mount_objects.copy_of(file_itself, _FLAGS | mount_objects.READ_ONLY), place)
    finally:
        os.close(place)


def _disk(image: int | None, user: int) -> int:
    if image is None:
        raise OSError("there is no disk for the workspace")
    device = attach_loop(image, "/dev")
    try:
        # The loop device has no other name that is sure to stay its own.
        name = os.readlink(f"/proc/self/fd/{device}")
        options = {"errors": "remount-ro", "discard": ""}
        mounted = mount_objects.new_disk("ext4", name, options, _FLAGS | mount_objects.NOATIME)
    finally:
        os.close(device)
    _give(mounted, user)
    return mounted


def _give(mounted: int, user: int) -> None:
    """Makes a workspace the user's; one that comes back with another user is gone through file by file."""
    root = f"/proc/self/fd/{mounted}/."
    if os.path.isdir(f"{root}/lost+found") and not os.listdir(f"{root}/lost+found"):
        os.rmdir(f"{root}/lost+found")
    if os.stat(root).st_uid not in (0, user):
        for path, names, files, parent in os.fwalk(root, follow_symlinks=False):
            for name in (*names, *files):
                if path == root and name == SKILLS_FOLDER:
                    continue  # stays the box's, so that it is known again
                os.chown(name, user, user, dir_fd=parent, follow_symlinks=False)
    os.chown(root, user, user)
    os.chmod(root, 0o700)


def _directory(mount: Placing) -> int:
    root = os.open(mount.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        source = syscalls.open_without_links(root, mount.path or ".", os.O_PATH)
    finally:
        os.close(root)
    try:
        return mount_objects.copy_of(source, _FLAGS | (0 if mount.writable else mount_objects.READ_ONLY))
    finally:
        os.close(source)


def _make_place(target: str, user: int) -> int:
    """Opens the directory to mount on, walking without links; below the workspace it is made where it is missing."""
    place = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in target.strip("/").split("/"):
        parent = place
        try:
            try:
                place = syscalls.open_without_links(parent, name, os.O_PATH | os.O_DIRECTORY)
            except FileNotFoundError:
                os.mkdir(name, 0o755, dir_fd=parent)
                os.chown(name, user, user, dir_fd=parent, follow_symlinks=False)
                place = syscalls.open_without_links(parent, name, os.O_PATH | os.O_DIRECTORY)
        finally:
            os.close(parent)
    return place
