"""The arguments of bubblewrap: what a sandbox sees. Given through a descriptor: no path shows in a process list."""

import os
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from portway.box.backends.namespace.leader import OWN_LEADER, led
from portway.box.backends.namespace.stage import EMPTY, ETC, RUN, TOP_LEVEL, StagedSession
from portway.box.backends.types import TEMPORARY, WORKSPACE, CommandSpec, HostMount, MountMode
from portway.box.isolation.limits import MEBI

INSIDE_USER = 1000
SHARED_MEMORY_BYTES = 64 * MEBI
# Descriptors that the launcher puts in place for bubblewrap.
ARGUMENTS_FD, STATUS_FD, CALLS_FILTER_FD, IOCTL_FILTER_FD = 3, 4, 5, 6

# Each costs time at every start, so only what a plain user could read or write at all is covered.
_HIDDEN_PROC_FILES = (
    "sysrq-trigger", "kcore", "keys", "key-users", "kallsyms", "kmsg", "timer_list", "timer_stats", "sched_debug",
    "latency_stats", "modules", "cmdline", "kpagecount", "kpageflags", "kpagecgroup",
)  # fmt: skip
_HIDDEN_PROC_DIRECTORIES = ("acpi", "scsi", "asound", "dynamic_debug")


def session_arguments(staged: StagedSession, present: frozenset[str]) -> list[str]:
    """What all commands of a session share. `present` are the entries of /proc that a plain user can open."""
    args = [
        "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
        "--uid", str(INSIDE_USER), "--gid", str(INSIDE_USER), "--hostname", "sandbox",
        "--disable-userns", "--die-with-parent", "--cap-drop", "ALL", "--clearenv",
        "--json-status-fd", str(STATUS_FD),
        "--add-seccomp-fd", str(CALLS_FILTER_FD), "--add-seccomp-fd", str(IOCTL_FILTER_FD),
    ]  # fmt: skip
    if staged.from_image:
        # With all mounts in it already: of an image no path is walked here, but for two that are plain directories.
        return [*args, "--bind", staged.path("root"), "/", *_proc(present), *_devices()]
    if staged.writable_root:
        args += ["--bind", staged.path("root"), "/", *_held_in_place(staged)]
    args += _system(links=not staged.writable_root)
    args += _proc(present)
    args += _devices()
    args += ["--bind", staged.path("tmp"), TEMPORARY]
    args += ["--ro-bind" if staged.workspace_read_only else "--bind", staged.path("workspace"), WORKSPACE]
    for index, mount in enumerate(staged.mounts):
        args += _mount(staged, index, mount)
    if not staged.writable_root:
        args += ["--remount-ro", "/"]
    return args


def _system(*, links: bool) -> Iterator[str]:
    """On a writable root, /bin and the like are mounts instead of links: a command could put another link in place."""
    yield from ("--ro-bind", "/usr", "/usr")
    for name, link in TOP_LEVEL.items():
        if link and links:
            yield from ("--symlink", link, f"/{name}")
        else:
            yield from ("--ro-bind", f"/{link or name}", f"/{name}")
    yield from ("--ro-bind", ETC, "/etc", "--ro-bind", RUN, "/run")
    if links:
        yield from ("--dir", "/var", "--symlink", TEMPORARY, "/var/tmp")


def _held_in_place(staged: StagedSession) -> Iterator[str]:
    """Directories of a writable root that mounts lie in: while one is mounted itself, no command can move it away."""
    for directory in ancestors(mount.target for mount in staged.mounts):
        yield from ("--bind", staged.path("root") + directory, directory)


def ancestors(targets: Iterable[str]) -> list[str]:
    """The directories above these paths, but for the root, outer ones first."""
    found = {str(parent) for target in targets for parent in PurePosixPath(target).parents}
    return sorted(found - {"/"})


def _proc(present: frozenset[str]) -> Iterator[str]:
    yield from ("--proc", "/proc")
    for name in _HIDDEN_PROC_FILES:
        if name in present:
            yield from ("--ro-bind", "/dev/null", f"/proc/{name}")
    for name in _HIDDEN_PROC_DIRECTORIES:
        if name in present:
            yield from ("--ro-bind", EMPTY, f"/proc/{name}")
    # Whole: below it lie the kernel's settings, the memory of bubblewrap's init, and how readily the machine's memory
    # killer takes a process.
    yield from ("--remount-ro", "/proc")


def _devices() -> Iterable[str]:
    return ["--dev", "/dev", "--size", str(SHARED_MEMORY_BYTES), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]


def _mount(staged: StagedSession, index: int, mount: HostMount) -> list[str]:
    if mount.mode is MountMode.NONE:
        return ["--ro-bind", EMPTY, mount.target]
    how = "--bind" if mount.mode is MountMode.READ_WRITE else "--ro-bind"
    return [how, staged.path(f"mount{index}"), mount.target]


def command_arguments(command: CommandSpec) -> list[str]:
    """What one command adds."""
    args = ["--chdir", command.directory]
    for name, value in command.env:
        args += ["--setenv", name, value]
    if command.terminal is None:
        # With a terminal, the command makes its own session to own it (see `command_line`), or shares the launcher's.
        args.append("--new-session")
    return args


def command_line(command: CommandSpec, leader: tuple[str, ...]) -> list[str]:
    """The program and its arguments, as bubblewrap is to run them."""
    if command.terminal is None:
        return list(command.argv)
    if leader == OWN_LEADER:
        return led(command)
    # A session of its own with the terminal as the controlling one, so that Ctrl-C reaches the foreground job only.
    return [*leader, *command.argv]


def packed(arguments: list[str]) -> bytes:
    """As the launcher reads them: each ended by a zero."""
    return b"".join(os.fsencode(argument) + b"\0" for argument in arguments)


def sealed(content: bytes) -> int:
    """A descriptor that reads `content` from the start."""
    descriptor = os.memfd_create("arguments", os.MFD_CLOEXEC)
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
