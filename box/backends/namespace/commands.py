"""What runs in one session: launchers that become sandboxes, each followed to its end."""

import asyncio
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from portway.box.backends.namespace.arguments import command_arguments, packed, sealed, session_arguments
from portway.box.backends.namespace.lanes import Lanes, Launcher
from portway.box.backends.namespace.launcher import COMMAND, ON_TERMINAL
from portway.box.backends.namespace.running import CommandPipes, RunningProcess, open_pipes
from portway.box.backends.namespace.session_skills import SessionSkills
from portway.box.backends.namespace.stage import StagedSession
from portway.box.backends.namespace.zygote_client import Ended, ZygoteClient
from portway.box.backends.types import CommandSpec, SandboxSpec
from portway.box.isolation.cgroups import Counted, SessionGroups
from portway.box.isolation.descriptors import give_to
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
    skills: int = -1


class SessionCommands:
    """`skills` change while the session lives. Nothing starts any more from `close` on."""

    def __init__(
        self, zygote: ZygoteClient, parts: SandboxParts, present: frozenset[str], skills: SessionSkills
    ) -> None:
        self._zygote = zygote
        self._parts = parts
        self._arguments = packed(session_arguments(parts.staged, present))
        self._skills = skills
        bounds = rlimits(parts.spec.limits, bound_memory=not parts.memory_is_bounded)
        order = {"rlimits": bounds, "user": parts.lease.user if parts.lease else None}
        self._lanes = Lanes(zygote, parts.groups, order, parts.namespaces)
        self._running: set[int] = set()
        self._ending: dict[int, asyncio.Task[tuple[Ended, Counted]]] = {}
        self._ends = TaskOwner("commands of a session")
        self.closed = False
        self.cpu_of_ended = 0.0

    @property
    def running_count(self) -> int:
        return len(self._running)

    def require(self) -> None:
        """After a deletion the numbers of its descriptors may stand for something else."""
        if self.closed:
            raise Unavailable("the session is being deleted")

    async def launcher(self) -> Launcher:
        """One that waits for its command."""
        return await self._lanes.make()

    def set_up(
        self, launcher: Launcher, command: CommandSpec, line: list[str], further: Sequence[int] = ()
    ) -> CommandPipes:
        """Makes a launcher a sandbox. One that cannot be is let go."""
        theirs: list[int] = []
        try:
            self.require()
            pipes = open_pipes(command, theirs)
            try:
                self.own(theirs)
                shown = self._skills.arguments(launcher.process.pid)
                theirs.insert(3, sealed(self._arguments + packed([*shown, *command_arguments(command)])))
                launcher.count_from_here()
                kind = COMMAND if command.terminal is None or self._parts.staged.leader else ON_TERMINAL
                launcher.hand_over(kind + packed(line)[:-1], [*theirs, *further])
            except BaseException:
                pipes.close()
                raise
            return pipes
        except BaseException:
            self.let_go(launcher)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)

    def own(self, descriptors: Sequence[int]) -> None:
        """So that a command can open /dev/stdout and the like anew."""
        if self._parts.lease is not None:
            for descriptor in descriptors:
                give_to(descriptor, self._parts.lease.user)

    def process(
        self, launcher: Launcher, pipes: CommandPipes, finished: "asyncio.Task[tuple[Ended, Counted]]"
    ) -> RunningProcess:
        pid = launcher.process.pid
        if not finished.done():
            self._running.add(pid)
        return RunningProcess(pipes, finished, lambda number: self._zygote.signal(pid, number))

    def let_go(self, launcher: Launcher) -> None:
        """A launcher that got no command ends when its line closes; its lane is then free again."""
        launcher.dismiss()
        self.follow(launcher)

    def follow(self, launcher: Launcher) -> "asyncio.Task[tuple[Ended, Counted]]":
        ending = self._ending[launcher.process.pid] = self._ends.start(self._finish(launcher))
        return ending

    async def _finish(self, launcher: Launcher) -> tuple[Ended, Counted]:
        try:
            ended, counted = await self._lanes.finish(launcher)
        finally:
            self._running.discard(launcher.process.pid)
            self._skills.forget(launcher.process.pid)
            self._ending.pop(launcher.process.pid, None)
        self.cpu_of_ended += ended.cpu_seconds
        return ended, counted

    async def end_all(self) -> int:
        """Ends what runs now, and waits for it. Returns how many there were."""
        running = [self._ending[pid] for pid in self._running if pid in self._ending]
        self._kill_all()
        if running:
            await asyncio.wait(running)
        return len(running)

    def _kill_all(self) -> None:
        for pid in list(self._running):
            self._zygote.signal(pid, signal.SIGKILL)

    def close(self) -> int:
        """Ends what runs. Returns how many there were; `ended` waits for them."""
        self.closed = True
        killed = len(self._running)
        self._kill_all()
        self._lanes.close()
        return killed

    async def ended(self) -> None:
        """Waits until nothing is left, and ends what nobody holds any more, after an error half-way, as well."""
        for pid in list(self._ending):
            self._zygote.signal(pid, signal.SIGKILL)
        await self._ends.close(cancel=False)
