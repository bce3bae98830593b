"""One session in a container."""

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from portway.box.backends.engine.groups import ContainerGroups
from portway.box.backends.engine.keeper_client import KeeperClient
from portway.box.backends.engine.network import ContainerNetwork
from portway.box.backends.engine.running import KeptCommand, report_of
from portway.box.backends.engine.skills import ContainerSkills
from portway.box.backends.namespace import wire
from portway.box.backends.namespace.arguments import sealed
from portway.box.backends.namespace.running import RunningSearch, open_pipes
from portway.box.backends.namespace.zygote_client import Ended
from portway.box.backends.types import (
    TEMPORARY,
    WORKSPACE,
    CommandSpec,
    FileAccess,
    FileMount,
    ListenPlace,
    MountMode,
    PortPlace,
    SandboxSpec,
    SandboxUsage,
    SkillMount,
)
from portway.box.isolation.cgroups import Counted, Lane
from portway.box.isolation.descriptors import give_to, nonblocking_pipe
from portway.box.isolation.limits import rlimits
from portway.box.isolation.removal import remove_whole
from portway.box.isolation.users import UserLease
from portway.box.tasks import TaskOwner, to_its_end
from portway.rpc.errors import PortwayError, Unavailable

_END_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ContainerParts:
    """What the backend put together for a session. `pidfd` is the container's first process."""

    spec: SandboxSpec
    container: str
    pidfd: int
    home: Path
    user: int
    lease: UserLease | None
    groups: ContainerGroups | None
    directories: tuple[int, ...]
    unenforced: tuple[str, ...]
    workspace_is_measured: bool
    remove: Callable[[str], Awaitable[None]]
    network: ContainerNetwork | None
    skills: ContainerSkills


class ContainerSandbox:
    """Implements `Sandbox`."""

    def __init__(self, keeper: KeeperClient, parts: ContainerParts) -> None:
        self._keeper = keeper
        self._parts = parts
        self._rlimits = rlimits(parts.spec.limits, bound_memory=False)
        self._lines: set[socket.socket] = set()
        self._ends = TaskOwner("commands of a session")
        self._cpu_of_ended = 0.0
        self._deleted = False
        self._may_start = asyncio.Event()
        self._may_start.set()

    @property
    def alive(self) -> bool:
        return self._keeper.alive

    @property
    def unenforced(self) -> tuple[str, ...]:
        return self._parts.unenforced

    async def start(self, command: CommandSpec) -> KeptCommand:
        await self._may_start.wait()
        self._require()
        theirs: list[int] = []
        order = {
            "argv": list(command.argv),
            "directory": command.directory,
            "env": dict(command.env),
            "terminal": command.terminal is not None,
        }
        pipes = open_pipes(command, theirs)
        try:
            if self._parts.lease is not None:
                for descriptor in theirs:
                    give_to(descriptor, self._parts.user)
            line, begun, finished = self._run("start", order, theirs)
        except BaseException:
            pipes.close()
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        running = KeptCommand(pipes, finished, lambda number: _send_signal(line, number))
        try:
            await begun.wait()
        except asyncio.CancelledError:
            await to_its_end(running.close())
            raise
        return running

    async def search(self, request: bytes, mount: int) -> RunningSearch:
        await self._may_start.wait()
        self._require()
        reading, writing = nonblocking_pipe(reader_is_ours=True)
        try:
            directory = self.files().mounts[mount].open()
            try:
                own = [directory, writing]
                line, _begun, finished = self._run("search", {"request": request.hex()}, own)
            finally:
                os.close(directory)
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        return RunningSearch(reading, finished, lambda: _send_signal(line, signal.SIGKILL))

    def _run(
        self, kind: str, order: dict[str, object], own: list[int]
    ) -> "tuple[socket.socket, asyncio.Event, asyncio.Task[tuple[Ended, Counted]]]":
        groups = self._parts.groups
        lane = groups.take() if groups is not None else None
        joins = lane.open_for_joining() if lane is not None else []
        whole = {**order, "user": self._parts.user, "rlimits": self._rlimits}
        content = sealed(json.dumps(whole).encode())
        try:
            if lane is not None:
                lane.begin()
            line = self._keeper.give(kind, content, own, joins)
        finally:
            for descriptor in (content, *joins):
                os.close(descriptor)
        self._lines.add(line)
        begun = asyncio.Event()
        return line, begun, self._ends.start(self._follow(line, begun, lane))

    async def _follow(self, line: socket.socket, begun: asyncio.Event, lane: Lane | None) -> tuple[Ended, Counted]:
        try:
            report = await report_of(line, begun)
        finally:
            begun.set()
            self._lines.discard(line)
            line.close()
            counted = await self._count(lane)
        self._cpu_of_ended += report.cpu_seconds
        if counted is None:
            counted = Counted(report.cpu_seconds, report.peak_memory, report.out_of_memory)
        return Ended(report.status, report.cpu_seconds, report.status, report.peak_memory), counted

    async def _count(self, lane: Lane | None) -> Counted | None:
        if lane is None or self._parts.groups is None:
            return None
        # Where the container is gone, its groups are too, and with them everything that was in them.
        with contextlib.suppress(OSError):
            return await self._parts.groups.finish(lane)
        return None

    def _require(self) -> None:
        """After a deletion the numbers of its descriptors may stand for something else."""
        if self._deleted:
            raise Unavailable("the session is being deleted")

    async def listen(self, place: ListenPlace) -> int:
        self._require()
        if self._parts.network is not None and isinstance(place, PortPlace):
            return self._parts.network.listen(place)
        return await self._keeper.listen(place)

    async def unlisten(self, name: str) -> None:
        self._require()
        await self._keeper.unlisten(name)

    async def show_skills(self, skills: tuple[SkillMount, ...]) -> int:
        self._require()
        killed = 0
        if skills and not self._parts.skills.are_there:
            # What runs while the folder is not covered could put something else in its place.
            self._may_start.clear()
            killed = await self._end_commands()
        try:
            await self._parts.skills.change(skills)
        finally:
            self._may_start.set()
        return killed

    async def _end_commands(self) -> int:
        lines = list(self._lines)
        for line in lines:
            _send_signal(line, signal.SIGKILL)
        await self._until_commands_ended()
        if self._lines:
            raise Unavailable("commands of the session do not end; try again", retry_after=1.0)
        return len(lines)

    def files(self) -> FileAccess:
        self._require()
        parts = self._parts
        workspace, temporary, *rest = parts.directories
        mounts = [FileMount(WORKSPACE, workspace, True), FileMount(TEMPORARY, temporary, True)]
        shown = [mount for mount in parts.spec.mounts if mount.mode is not MountMode.NONE]
        for mount, directory in zip(shown, rest, strict=True):
            mounts.append(FileMount(mount.target, directory, mount.mode is MountMode.READ_WRITE))
        mounts += parts.skills.files()
        return FileAccess(tuple(mounts), parts.user if parts.lease is not None else None)

    async def usage(self) -> SandboxUsage:
        self._require()
        parts, disk = self._parts, None
        if parts.workspace_is_measured:
            figures = os.statvfs(f"/proc/self/fd/{parts.directories[0]}")
            disk = (figures.f_blocks - figures.f_bfree) * figures.f_frsize
        if parts.groups is None:
            return SandboxUsage(None, disk, None, self._cpu_of_ended)
        groups = parts.groups
        return SandboxUsage(groups.memory_used(), disk, groups.pids_used(), groups.cpu_seconds())

    async def delete(self, *, keep_workspace: bool = False) -> int:
        self._deleted = True
        parts = self._parts
        killed = len(self._lines)
        if parts.groups is not None:
            parts.groups.close()
        for line in list(self._lines):
            _send_signal(line, signal.SIGKILL)
        await self._until_commands_ended()
        # With its line the keeper ends, and with it, as their first process, all that the container has.
        self._keeper.close()
        await asyncio.to_thread(self._see_it_end)
        await self._ends.close(cancel=False)
        try:
            await parts.remove(parts.container)
        except PortwayError as error:
            # Nothing runs in it any more; the engine forgets it when it is back, and the next start looks for it.
            structlog.get_logger().warning("the engine did not remove a container", reason=error.message)
        await asyncio.to_thread(self._clear, keep_workspace)
        if parts.lease is not None:
            parts.lease.release()
        return killed

    async def _until_commands_ended(self) -> None:
        """So that how they ended is told by their minders. One that hangs is ended with the container."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await self._ends.until_idle()

    def _see_it_end(self) -> None:
        """Waits for the container's first process, and kills it where it does not go by itself."""
        poll = select.poll()
        poll.register(self._parts.pidfd, select.POLLIN)
        if not poll.poll(_END_SECONDS * 1000):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self._parts.pidfd, signal.SIGKILL)
            poll.poll(_END_SECONDS * 1000)

    def _clear(self, keep_workspace: bool) -> None:
        parts = self._parts
        if parts.groups is not None:
            parts.groups.remove_lanes()
        for descriptor in (*parts.directories, parts.pidfd):
            os.close(descriptor)
        if parts.network is not None:
            parts.network.close()
        parts.skills.close()
        if not keep_workspace:
            remove_whole(parts.home)


def _send_signal(line: socket.socket, number: int) -> None:
    # A line that is closed belongs to a command that has ended.
    with contextlib.suppress(OSError):
        wire.send(line, {"signal": number})
