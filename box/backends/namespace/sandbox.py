"""One session of the namespace backend."""

import asyncio
import os
import signal
from dataclasses import replace

from portway.box.backends.namespace import wire
from portway.box.backends.namespace.arguments import command_line
from portway.box.backends.namespace.commands import SandboxParts, SessionCommands
from portway.box.backends.namespace.launcher import SEARCH
from portway.box.backends.namespace.leader import OWN_LEADER, leader_program
from portway.box.backends.namespace.prepared import (
    READY_SECONDS,
    SAY_READY,
    WAIT_FOR_SCRIPT,
    NoShell,
    Prepared,
    PreparedPool,
    script_for,
)
from portway.box.backends.namespace.running import RunningProcess, RunningSearch
from portway.box.backends.namespace.session_skills import SessionSkills
from portway.box.backends.namespace.zygote_client import ZygoteClient
from portway.box.backends.types import (
    TEMPORARY,
    WORKSPACE,
    CommandSpec,
    FileAccess,
    FileMount,
    ListenPlace,
    MountMode,
    PortPlace,
    SandboxUsage,
    SkillMount,
    SocketPlace,
    check_socket_name,
)
from portway.box.isolation.descriptors import Descriptor, nonblocking_pipe
from portway.box.isolation.removal import remove_whole
from portway.box.isolation.syscalls import is_directory
from portway.rpc.errors import Unavailable

_SHELL = "/bin/sh"


class NamespaceSandbox:
    """Implements `Sandbox`."""

    def __init__(self, zygote: ZygoteClient, parts: SandboxParts, present: frozenset[str]) -> None:
        self._zygote = zygote
        self._parts = parts
        self._prepared = PreparedPool(self._prepare)
        self._has_shell = True
        self._may_start = asyncio.Event()
        self._may_start.set()
        self._skills = SessionSkills(
            zygote,
            parts.namespaces[0],
            parts.lease.user if parts.lease else None,
            parts.spec.skills,
            parts.spec.workspace,
            parts.skills,
        )
        self._commands = SessionCommands(zygote, parts, present, self._skills)

    async def warm(self) -> None:
        """Puts the first sandbox up."""
        try:
            await self._prepared.fill()
        except NoShell:
            # Each command then gets a sandbox of its own.
            self._has_shell = False

    @property
    def alive(self) -> bool:
        return self._zygote.alive

    @property
    def unenforced(self) -> tuple[str, ...]:
        return self._parts.unenforced

    async def start(self, command: CommandSpec) -> RunningProcess:
        await self._may_start.wait()
        try:
            running = await self._start_prepared(command) or await self._start_anew(command)
        except OSError as error:
            raise Unavailable(f"the box cannot begin a command now: {error.strerror}", retry_after=0.5) from None
        if self._has_shell:
            self._prepared.refill(self._commands.running_count)
        return running

    async def _start_prepared(self, command: CommandSpec) -> RunningProcess | None:
        spec, staged = self._parts.spec, self._parts.staged
        if staged.from_image and command.argv[0] != _SHELL:
            # Between the caller's program and its end there would be a program of the image: one that does not do as
            # it is told, and ends with 0, must not look like a success of what was asked for.
            return None
        script = script_for(command, dict(spec.env), spec.directory, staged.leader)
        if script is None or not self._has_shell or not self._is_there(command.directory):
            return None
        if command.terminal is not None and staged.from_image:
            # What makes a program the owner of its terminal is the image's, and may not take its place.
            return None
        while command.terminal is None and (prepared := self._prepared.take()):
            try:
                prepared.become(script)
            except Unavailable:
                prepared.pipes.close()
                continue
            if not command.wants_input:
                prepared.pipes.stdin.close()
            return self._commands.process(prepared.launcher, prepared.pipes, prepared.finished)
        return await self._start_at_once(command, script)

    async def _start_at_once(self, command: CommandSpec, script: bytes) -> RunningProcess | None:
        """In a sandbox that is prepared for it. `None`: what gets it in another way says why it does not come up."""
        age = self._prepared.age
        try:
            prepared = await self._prepare(command)
        except NoShell:
            return None
        if self._commands.closed or not self._may_start.is_set() or self._prepared.age != age:
            # It sees the session as it was.
            prepared.dismiss()
            return None
        try:
            prepared.become(script)
        except Unavailable:
            prepared.pipes.close()
            return None
        return self._commands.process(prepared.launcher, prepared.pipes, prepared.finished)

    def _is_there(self, directory: str) -> bool:
        """Whether a working directory exists for the session's user. One that does not is told by bubblewrap itself."""
        if directory == self._parts.spec.directory:
            return True
        access = self.files()
        for mount in access.mounts:
            inside = directory.removeprefix(mount.target)
            if inside != directory and inside[:1] in ("", "/"):
                return is_directory(mount.directory, inside.lstrip("/") or ".", access.owner)
        return False

    async def _start_anew(self, command: CommandSpec) -> RunningProcess:
        launcher = await self._commands.launcher()
        await self._may_start.wait()
        leader = self._parts.staged.leader
        led = command.terminal is not None and leader == OWN_LEADER
        further = [leader_program()] if led else []
        pipes = self._commands.set_up(launcher, command, command_line(command, leader), further)
        return self._commands.process(launcher, pipes, self._commands.follow(launcher))

    async def _prepare(self, command: CommandSpec | None = None) -> Prepared:
        """A sandbox with a shell that waits, with the terminal and input of `command` if there is one."""
        spec = self._parts.spec
        from_image = self._parts.staged.from_image
        line = SAY_READY if from_image else WAIT_FOR_SCRIPT
        waiting = CommandSpec(tuple(line), spec.directory, spec.env)
        if command is not None:
            waiting = replace(waiting, terminal=command.terminal, wants_input=command.wants_input)
        reading, writing = nonblocking_pipe(reader_is_ours=False)
        further = [reading]
        ready: Descriptor | None = None
        try:
            if from_image:
                ours, theirs = nonblocking_pipe(reader_is_ours=True)
                ready = Descriptor(ours)
                further.append(theirs)
            self._commands.own(further)
            launcher = await self._commands.launcher()
            pipes = self._commands.set_up(launcher, waiting, line, further)
        except BaseException:
            os.close(writing)
            if ready is not None:
                ready.close()
            raise
        finally:
            for descriptor in further:
                os.close(descriptor)
        prepared = Prepared(launcher, pipes, writing, self._commands.follow(launcher))
        if ready is not None:
            await self._until_ready(prepared, ready)
        try:
            await pipes.come_up()
            await self._zygote.watch(launcher.process.pid)
        except BaseException:
            prepared.dismiss()
            raise
        return prepared

    async def _until_ready(self, prepared: Prepared, ready: Descriptor) -> None:
        """Raises `NoShell` where the image's shell does not say that it is there."""
        pid = prepared.launcher.process.pid
        try:
            async with asyncio.timeout(READY_SECONDS):
                if await ready.read(1):
                    return
                # Raises where it is the sandbox itself that did not come up.
                running = self._commands.process(prepared.launcher, prepared.pipes, prepared.finished)
                ended = await running.wait()
            reason = f"its /bin/sh ended with {ended.exit_code if ended.exit_code is not None else ended.signal}"
        except TimeoutError:
            reason = f"its /bin/sh said nothing for {READY_SECONDS:.0f} s"
        except BaseException:
            self._zygote.signal(pid, signal.SIGKILL)
            prepared.dismiss()
            raise
        finally:
            ready.close()
        self._zygote.signal(pid, signal.SIGKILL)
        prepared.dismiss()
        raise NoShell(f"the image has no shell that works: {reason}")

    async def search(self, request: bytes, mount: int) -> RunningSearch:
        launcher = await self._commands.launcher()
        try:
            self._commands.require()
            reading, writing = nonblocking_pipe(reader_is_ours=True)
            try:
                directory = self.files().mounts[mount].open()
                try:
                    launcher.hand_over(SEARCH + request, [directory, writing])
                finally:
                    os.close(directory)
            except BaseException:
                os.close(reading)
                raise
            finally:
                os.close(writing)
        except BaseException:
            self._commands.let_go(launcher)
            raise
        pid = launcher.process.pid
        return RunningSearch(reading, self._commands.follow(launcher), lambda: self._zygote.signal(pid, signal.SIGKILL))

    async def listen(self, place: ListenPlace) -> int:
        self._commands.require()
        request = self._zygote.next_request()
        match place:
            case PortPlace():
                order = wire.ListenOrder(request, place.protocol, port=place.port, any_address=place.any_address)
            case SocketPlace():
                check_socket_name(place.name)
                order = wire.ListenOrder(request, "unix", name=place.name)
        _answer, (listening,) = await self._zygote.ask(order.to_message(), list(self._parts.namespaces))
        return listening

    async def unlisten(self, name: str) -> None:
        self._commands.require()
        check_socket_name(name)
        order = wire.ListenOrder(self._zygote.next_request(), wire.REMOVE, name=name)
        await self._zygote.ask(order.to_message(), list(self._parts.namespaces))

    def files(self) -> FileAccess:
        self._commands.require()
        parts = self._parts
        workspace, temporary, *rest = parts.directories
        mounts = [
            FileMount(WORKSPACE, workspace, not parts.staged.workspace_read_only),
            FileMount(TEMPORARY, temporary, True),
        ]
        shown = [mount for mount in parts.staged.mounts if mount.mode is not MountMode.NONE]
        for mount, directory in zip(shown, rest, strict=True):
            mounts.append(FileMount(mount.target, directory, mount.mode is MountMode.READ_WRITE))
        mounts += self._skills.files()
        return FileAccess(tuple(mounts), parts.lease.user if parts.lease else None)

    async def show_skills(self, skills: tuple[SkillMount, ...]) -> int:
        self._commands.require()
        killed = 0
        if not self._skills.is_there:
            # What runs while the folder is not covered could put something else in its place.
            self._may_start.clear()
            killed = await self._commands.end_all()
        try:
            await self._skills.change(skills)
        finally:
            self._may_start.set()
            self._prepared.renew()
        self._prepared.refill(self._commands.running_count)
        return killed

    async def usage(self) -> SandboxUsage:
        self._commands.require()
        parts, disk = self._parts, None
        if parts.workspace_is_measured:
            figures = os.statvfs(f"/proc/self/fd/{parts.directories[0]}")
            disk = (figures.f_blocks - figures.f_bfree) * figures.f_frsize
        if parts.groups is None:
            return SandboxUsage(None, disk, None, self._commands.cpu_of_ended)
        groups = parts.groups
        return SandboxUsage(groups.memory_used(), disk, groups.pids_used(), groups.cpu_seconds(), groups.memory_peak())

    async def delete(self, *, keep_workspace: bool = False) -> int:
        killed = self._commands.close()
        await self._prepared.close()
        await self._commands.ended()
        try:
            await asyncio.to_thread(self._remove, keep_workspace)
        finally:
            if self._parts.lease is not None:
                self._parts.lease.release()
        return killed

    def _remove(self, keep_workspace: bool) -> None:
        parts = self._parts
        try:
            if parts.groups is not None:
                parts.groups.kill_and_remove()
        finally:
            # The last holders of its namespaces: with them the kernel unmounts everything and frees the loop device.
            self._skills.close()
            for descriptor in (*parts.directories, *parts.namespaces):
                os.close(descriptor)
        if not keep_workspace:
            remove_whole(parts.home)
