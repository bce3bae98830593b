"""One session of the namespace backend."""

import asyncio
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from portway.box.backends.namespace import wire
from portway.box.backends.namespace.arguments import command_arguments, command_line, session_arguments
from portway.box.backends.namespace.lanes import Launcher, LauncherPool
from portway.box.backends.namespace.launcher import COMMAND, SEARCH
from portway.box.backends.namespace.running import CommandPipes, RunningProcess, RunningSearch
from portway.box.backends.namespace.stage import StagedSession
from portway.box.backends.namespace.zygote_client import Ended, ZygoteClient
from portway.box.backends.types import (
    TEMPORARY,
    WORKSPACE,
    CommandSpec,
    FileAccess,
    FileMount,
    MountMode,
    SandboxSpec,
    SandboxUsage,
)
from portway.box.isolation.cgroups import Counted, SessionGroups
from portway.box.isolation.descriptors import nonblocking_pipe, open_terminal, widen_pipe
from portway.box.isolation.limits import rlimits
from portway.box.isolation.users import UserLease
from portway.box.tasks import TaskOwner
from portway.rpc.errors import Unavailable


@dataclass(frozen=True, slots=True)
class SandboxParts:
    """What the backend put together for a session. Descriptors are owned by the sandbox from here on."""

    spec: SandboxSpec
    staged: StagedSession
    home: Path
    lease: UserLease | None
    groups: SessionGroups | None
    namespaces: tuple[int, int]
    directories: tuple[int, ...]
    unenforced: tuple[str, ...]
    memory_is_bounded: bool
    workspace_is_measured: bool


class NamespaceSandbox:
    """Implements `Sandbox`."""

    def __init__(self, zygote: ZygoteClient, parts: SandboxParts, present: frozenset[str]) -> None:
        self._zygote = zygote
        self._parts = parts
        self._arguments = _packed(session_arguments(parts.staged, present))
        bounds = rlimits(parts.spec.limits, bound_address_space=not parts.memory_is_bounded)
        order = {"rlimits": bounds, "user": parts.lease.user if parts.lease else None}
        self._pool = LauncherPool(zygote, parts.groups, order, parts.namespaces)
        self._running: set[int] = set()
        self._ends = TaskOwner("commands of a session")
        self._cpu_of_ended = 0.0

    async def warm(self) -> None:
        await self._pool.fill()

    @property
    def unenforced(self) -> tuple[str, ...]:
        return self._parts.unenforced

    async def start(self, command: CommandSpec) -> RunningProcess:
        launcher = await self._pool.take()
        theirs: list[int] = []
        try:
            pipes = _open_pipes(command, theirs)
            try:
                theirs.insert(3, _sealed(self._arguments + _packed(command_arguments(command))))
                _hand_over(launcher, COMMAND + _packed(command_line(command))[:-1], theirs)
            except BaseException:
                pipes.close()
                raise
        except BaseException:
            self._let_go(launcher)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        finished = self._follow(launcher)
        self._pool.refill()
        pid = launcher.process.pid
        return RunningProcess(pipes, finished, lambda number: self._zygote.signal(pid, number))

    async def search(self, request: bytes, mount: int) -> RunningSearch:
        launcher = await self._pool.take()
        try:
            reading, writing = nonblocking_pipe(reader_is_ours=True)
            try:
                _hand_over(launcher, SEARCH + request, [self._parts.directories[mount], writing])
            except BaseException:
                os.close(reading)
                raise
            finally:
                os.close(writing)
        except BaseException:
            self._let_go(launcher)
            raise
        finished = self._follow(launcher)
        self._pool.refill()
        pid = launcher.process.pid
        return RunningSearch(reading, finished, lambda: self._zygote.signal(pid, signal.SIGKILL))

    def _let_go(self, launcher: Launcher) -> None:
        """A launcher that got no command ends when its line closes; its lane is then free again."""
        launcher.dismiss()
        self._follow(launcher)

    def _follow(self, launcher: Launcher) -> "asyncio.Task[tuple[Ended, Counted]]":
        self._running.add(launcher.process.pid)
        return self._ends.start(self._finish(launcher))

    async def _finish(self, launcher: Launcher) -> tuple[Ended, Counted]:
        try:
            ended, counted = await self._pool.finish(launcher)
        finally:
            self._running.discard(launcher.process.pid)
        self._cpu_of_ended += ended.cpu_seconds
        return ended, counted

    def files(self) -> FileAccess:
        parts = self._parts
        workspace, temporary, *rest = parts.directories
        mounts = [FileMount(WORKSPACE, workspace, True), FileMount(TEMPORARY, temporary, True)]
        shown = [mount for mount in parts.staged.mounts if mount.mode is not MountMode.NONE]
        for mount, directory in zip(shown, rest, strict=True):
            mounts.append(FileMount(mount.target, directory, mount.mode is MountMode.READ_WRITE))
        return FileAccess(tuple(mounts), parts.lease.user if parts.lease else None)

    async def usage(self) -> SandboxUsage:
        parts, disk = self._parts, None
        if parts.workspace_is_measured:
            figures = os.statvfs(f"/proc/self/fd/{parts.directories[0]}")
            disk = (figures.f_blocks - figures.f_bfree) * figures.f_frsize
        if parts.groups is None:
            return SandboxUsage(None, disk, None, self._cpu_of_ended)
        groups = parts.groups
        return SandboxUsage(groups.memory_used(), disk, groups.pids_used(), groups.cpu_seconds())

    async def delete(self, *, keep_workspace: bool = False) -> int:
        killed = len(self._running)
        for pid in list(self._running):
            self._zygote.signal(pid, signal.SIGKILL)
        await self._pool.close()
        await self._ends.close(cancel=False)
        await asyncio.to_thread(self._remove, keep_workspace)
        if self._parts.lease is not None:
            self._parts.lease.release()
        return killed

    def _remove(self, keep_workspace: bool) -> None:
        parts = self._parts
        if parts.groups is not None:
            parts.groups.kill_and_remove()
        # The last holders of its namespaces: with them the kernel unmounts everything and frees the loop device.
        for descriptor in (*parts.directories, *parts.namespaces):
            os.close(descriptor)
        if not keep_workspace:
            shutil.rmtree(parts.home, ignore_errors=True)


def _hand_over(launcher: Launcher, packet: bytes, descriptors: list[int]) -> None:
    try:
        wire.send_raw(launcher.process.line, packet, descriptors)
    except OSError as error:
        raise Unavailable(f"the sandbox did not take the command: {error.strerror}", retry_after=0.2) from None


def _open_pipes(command: CommandSpec, theirs: list[int]) -> CommandPipes:
    """Adds the command's ends to `theirs`: input, output, errors, status."""
    status, status_end = nonblocking_pipe(reader_is_ours=True)
    if command.terminal is not None:
        ours, end = open_terminal(command.terminal)
        theirs += [end, os.dup(end), os.dup(end), status_end]
        return CommandPipes(status, ours, -1, -1, terminal=True)
    stdin_end, stdin = nonblocking_pipe(reader_is_ours=False) if command.wants_input else (_nothing(), -1)
    stdout, stdout_end = nonblocking_pipe(reader_is_ours=True)
    stderr, stderr_end = nonblocking_pipe(reader_is_ours=True)
    widen_pipe(stdout)
    theirs += [stdin_end, stdout_end, stderr_end, status_end]
    return CommandPipes(status, stdin, stdout, stderr, terminal=False)


def _nothing() -> int:
    return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


def _packed(arguments: list[str]) -> bytes:
    return b"".join(os.fsencode(argument) + b"\0" for argument in arguments)


def _sealed(content: bytes) -> int:
    """A descriptor that reads `content` from the start."""
    descriptor = os.memfd_create("arguments", os.MFD_CLOEXEC)
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
