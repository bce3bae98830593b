"""Skills shown in a session: a small file system of their own, which commands see as the workspace's folder `.skills`.

Runs in a child of the launcher process. In the workspace the folder itself is covered, so that nobody in the session
can put something else in its place. What is covered holds the copies of skills that may be written to: they are in the
workspace's own file system and count for its quota.
"""

import contextlib
import errno
import os
import stat
from dataclasses import dataclass

from portway.box.backends.namespace.stage import HOST, STAGE
from portway.box.backends.namespace.wire import SkillOrder, SkillsOrder
from portway.box.isolation import mount_objects, syscalls
from portway.box.isolation.syscalls import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_NODEV,
    MS_NOSUID,
    RESOLVE_NO_SYMLINKS,
)

FOLDER = ".skills"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FULL = (errno.ENOSPC, errno.EDQUOT)
_PIECE = 1024 * 1024
_SAFE = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV


@dataclass(frozen=True, slots=True)
class SkillPlaces:
    """Where a session has its workspace, as this process sees it, and a folder that only the box enters."""

    workspace: str
    folder: str

    @property
    def plain(self) -> str:
        return f"{self.folder}/plain"

    def of_set(self, number: int) -> str:
        return f"{self.folder}/skills{number}"


STAGED = SkillPlaces(f"{STAGE}/workspace", STAGE)


def clone_skills(skills: tuple[SkillOrder, ...], machine: str = HOST) -> list[int]:
    """The skills' files as read-only mounts. Needs the machine in reach, at `machine`."""
    clones: list[int] = []
    for skill in skills:
        root = os.open(machine + skill.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            source = syscalls.open_without_links(root, skill.path, os.O_PATH | os.O_DIRECTORY)
            try:
                clones.append(syscalls.clone_mount(source, _SAFE | MOUNT_ATTR_RDONLY))
            finally:
                os.close(source)
        finally:
            os.close(root)
    return clones


def show_skills(order: SkillsOrder, clones: list[int], places: SkillPlaces = STAGED, *, strict: bool) -> int:
    """Puts a set of skills together at `places.of_set(order.number)`, and returns it, open.

    Commands are told which set they see, so that those that begin meanwhile see the one before, whole. Where a copy
    does not fit, `strict` raises `OSError`; otherwise the skill is shown read-only.
    """
    skills = order.skills
    plain = _plain_workspace(places)
    folder = _own_folder(plain)
    _cover(places.workspace)
    refused = _make_copies(folder, skills, clones, order.user, strict=strict)
    path = places.of_set(order.number)
    _build(path, skills, clones)
    for skill in skills:
        if skill.writable and skill.name not in refused:
            _place_copy(folder, skill, path)
    shown = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    syscalls.set_mount_attributes(shown, _SAFE | MOUNT_ATTR_RDONLY)
    for number in order.done_with:
        if os.path.ismount(places.of_set(number)):
            syscalls.unmount(places.of_set(number))
    return shown


def _plain_workspace(places: SkillPlaces) -> int:
    """The workspace without what is mounted in it, as a mount beside it."""
    if not os.path.ismount(places.plain):
        os.makedirs(places.plain, mode=0o700, exist_ok=True)
        workspace = os.open(places.workspace, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        mount = syscalls.clone_mount(workspace, _SAFE)
        syscalls.move_mount(mount, os.open(places.plain, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    return os.open(places.plain, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _cover(path: str) -> None:
    """From here on nobody in the session reaches the folder, or what has its name: an empty mount is in its place."""
    if os.path.ismount(f"{path}/{FOLDER}"):
        return
    workspace = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    place = syscalls.open_beneath(workspace, FOLDER, os.O_PATH | os.O_DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)
    # By descriptors: in a container this process has no /proc of its own.
    options = {"size": "4k", "nr_inodes": "2", "mode": "0755"}
    syscalls.move_mount(mount_objects.new_disk("tmpfs", "skills", options, _SAFE | MOUNT_ATTR_RDONLY), place)


def _own_folder(workspace: int) -> int:
    """The folder that is covered, open. Whatever else has its name is moved aside: it is not this side's."""
    mine = os.geteuid()
    with contextlib.suppress(FileNotFoundError):
        found = os.stat(FOLDER, dir_fd=workspace, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != mine:
            aside = f"{FOLDER}-{os.urandom(6).hex()}.aside"
            os.rename(FOLDER, aside, src_dir_fd=workspace, dst_dir_fd=workspace)
    with contextlib.suppress(FileExistsError):
        os.mkdir(FOLDER, 0o755, dir_fd=workspace)
    return syscalls.open_beneath(workspace, FOLDER, _DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)


def _make_copies(
    folder: int, skills: tuple[SkillOrder, ...], clones: list[int], user: int | None, *, strict: bool
) -> list[str]:
    refused = []
    for skill, clone in zip(skills, clones, strict=True):
        if skill.writable:
            try:
                _make_copy(folder, skill, clone, user)
            except OSError as error:
                if strict or error.errno not in _FULL:
                    raise
                refused.append(skill.name)
    return refused


def _copy_name(skill: SkillOrder) -> str:
    return f"{skill.name}@{skill.digest}"


def _make_copy(folder: int, skill: SkillOrder, source: int, user: int | None) -> None:
    """One for each digest: what was changed in it stays as long as the skill itself does not change."""
    name = _copy_name(skill)
    present = os.listdir(folder)
    if name in present:
        # It has to be a directory, and nothing that leads elsewhere.
        os.close(syscalls.open_beneath(folder, name, _DIRECTORY, resolve=RESOLVE_NO_SYMLINKS))
        return
    for other in present:
        if other.startswith(f"{skill.name}@"):
            _remove(folder, other)
    part = f"{name}.part"
    os.mkdir(part, 0o700, dir_fd=folder)
    try:
        copy = syscalls.open_beneath(folder, part, _DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)
        try:
            _copy_tree(source, copy, user)
            os.fchmod(copy, 0o755)
            if user is not None:
                os.fchown(copy, user, user)
        finally:
            os.close(copy)
        os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        _remove(folder, part)
        raise


def _copy_tree(source: int, target: int, user: int | None) -> None:
    for path, directories, files, opened in os.fwalk(".", dir_fd=source, follow_symlinks=False):
        into = syscalls.open_beneath(target, path, _DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)
        try:
            for name in files:
                _copy_file(opened, into, name, user)
            for name in directories:
                os.mkdir(name, 0o755, dir_fd=into)
                if user is not None:
                    os.chown(name, user, user, dir_fd=into, follow_symlinks=False)
        finally:
            os.close(into)


def _copy_file(source: int, target: int, name: str, user: int | None) -> None:
    reading = syscalls.open_beneath(source, name, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        writing = syscalls.open_beneath(target, name, flags, 0o600, resolve=RESOLVE_NO_SYMLINKS)
        try:
            while data := os.read(reading, _PIECE):
                while data:
                    data = data[os.write(writing, data) :]
            os.fchmod(writing, os.fstat(reading).st_mode & 0o777)
            if user is not None:
                os.fchown(writing, user, user)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _remove(folder: int, name: str) -> None:
    for _path, directories, files, opened in os.fwalk(name, topdown=False, dir_fd=folder, follow_symlinks=False):
        for file in files:
            os.unlink(file, dir_fd=opened)
        for directory in directories:
            try:
                os.rmdir(directory, dir_fd=opened)
            except NotADirectoryError:  # a link to one
                os.unlink(directory, dir_fd=opened)
    with contextlib.suppress(NotADirectoryError):
        os.rmdir(name, dir_fd=folder)
        return
    os.unlink(name, dir_fd=folder)


def _build(path: str, skills: tuple[SkillOrder, ...], clones: list[int]) -> None:
    """A small file system with a folder for each skill, on which its files are mounted."""
    os.mkdir(path, 0o755)
    syscalls.mount("skills", path, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,nr_inodes=1k,mode=0755")
    for skill, clone in zip(skills, clones, strict=True):
        os.mkdir(f"{path}/{skill.name}", 0o755)
        _place(clone, f"{path}/{skill.name}")


def _place_copy(folder: int, skill: SkillOrder, path: str) -> None:
    """Over the read-only one."""
    copy = syscalls.open_beneath(folder, _copy_name(skill), os.O_PATH | os.O_DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)
    mount = syscalls.clone_mount(copy, _SAFE)
    _place(mount, f"{path}/{skill.name}")
    for descriptor in (copy, mount):
        os.close(descriptor)


def _place(mount: int, path: str) -> None:
    place = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.move_mount(mount, place)
    finally:
        os.close(place)
