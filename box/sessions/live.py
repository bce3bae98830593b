"""One session in memory: made once whoever asks, used by many, deleted once."""

import asyncio
import dataclasses
import errno
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from portway.box.backends.interface import RunningCommand, Sandbox
from portway.box.backends.types import CommandSpec, SandboxUsage, SkillMount
from portway.box.sessions.types import (
    Session,
    SessionFigures,
    SessionRef,
    SessionSkill,
    SessionSpec,
    SessionState,
    SessionUse,
)
from portway.box.tasks import TaskOwner
from portway.rpc.errors import LimitExceeded, NotFound, PortwayError, Quota, Reason, Unavailable

MOST_QUEUED_COMMANDS = 64
DEFAULT_PATIENCE_SECONDS = 120.0
CALL, COMMAND, PROCESS, SOCKET = "call", "command", "process", "socket"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session that can be used now, with what commands and files need to know of it."""

    ref: SessionRef
    spec: SessionSpec
    sandbox: Sandbox
    on_start: Callable[[], None] = lambda: None

    async def start(self, command: CommandSpec) -> RunningCommand:
        """Starts a command in its sandbox, and counts it."""
        running = await self.sandbox.start(command)
        self.on_start()
        return running


class LiveSession:
    """Holds the sandbox of a session, opens it when it is needed, and knows what is under way in it."""

    def __init__(
        self,
        ref: SessionRef,
        spec: SessionSpec,
        backend: str,
        make: Callable[[SessionSpec], Awaitable[Sandbox]],
        on_change: Callable[["LiveSession"], None],
        on_release: Callable[[], None],
        tasks: TaskOwner,
        *,
        create_time: float | None = None,
        patience: float = DEFAULT_PATIENCE_SECONDS,
    ) -> None:
        """`patience`: seconds after which a sandbox that does not come up is given up."""
        self.ref = ref
        self.spec = spec
        self._backend = backend
        self._make = make
        self._on_change = on_change
        self._on_release = on_release
        self._tasks = tasks
        self._patience = patience
        self._create_time = create_time or time.time()
        self._last_use = time.time()
        # Being idle is counted by a clock that nobody sets.
        self._last_use_mark = time.monotonic()
        self._state = SessionState.CREATING
        self._reason = ""
        self._sandbox: Sandbox | None = None
        self._opening: asyncio.Task[Sandbox] | None = None
        self._leaving: asyncio.Task[int] | None = None
        self._uses: dict[int, SessionUse] = {}
        self._numbers = itertools.count(1)
        self._started = 0
        self._queued = 0
        self._changing = asyncio.Lock()
        self._unenforced: tuple[str, ...] = ()
        self._slots = asyncio.Semaphore(spec.concurrent_commands)

    @property
    def create_time(self) -> float:
        return self._create_time

    @property
    def running_count(self) -> int:
        """Commands and processes that run."""
        return sum(1 for use in self._uses.values() if use.kind in (COMMAND, PROCESS))

    @property
    def work_count(self) -> int:
        """What is under way in it and will end."""
        return sum(1 for use in self._uses.values() if use.kind != SOCKET)

    @property
    def uses(self) -> list[SessionUse]:
        return list(self._uses.values())

    @property
    def state(self) -> SessionState:
        return self._state

    @property
    def sandbox(self) -> Sandbox | None:
        return self._sandbox

    def describe(self) -> Session:
        return Session(
            ref=self.ref,
            spec=self.spec,
            state=self._state,
            reason=self._reason,
            backend=self._backend,
            create_time=self._create_time,
            last_use_time=self._last_use,
            running_count=self.running_count,
            unenforced_limits=self._unenforced,
        )

    async def figures(self) -> SessionFigures:
        """What it uses now. One without a sandbox, or whose sandbox just goes, uses nothing that can be told."""
        usage = SandboxUsage()
        if self._sandbox is not None:
            with suppress(Unavailable):
                usage = await self._sandbox.usage()
        return SessionFigures(self.describe(), usage, self._started)

    def is_idle_since(self, now: float) -> bool:
        """Whether nothing used it for longer than it may stay unused. `now` as of `time.monotonic`."""
        idle = not self._uses and not self._queued and now - self._last_use_mark > self.spec.ttl
        return idle and self._state in (SessionState.READY, SessionState.FAILED) and not self.spec.persistent

    def touch(self) -> None:
        """Somebody wants it: its time to live begins anew."""
        self._last_use, self._last_use_mark = time.time(), time.monotonic()

    def wake_later(self) -> None:
        """A session that comes back after a restart is opened when it is used first."""
        self._set(SessionState.READY)

    def lose_sandbox(self) -> None:
        """What ran is gone; the next use opens it again with its workspace, once the rest was taken down."""
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is not None:
            self._leaving = self._tasks.start(sandbox.delete(keep_workspace=True))

    async def open(self) -> Sandbox:
        """The sandbox. Several callers share one opening, which goes on when one of them goes away."""
        if self._state is SessionState.DELETING:
            raise NotFound.of("session", self.ref.session_id)
        self.touch()
        if self._sandbox is not None and self._sandbox.alive:
            return self._sandbox
        self.lose_sandbox()
        if self._opening is None:
            self._opening = self._tasks.start(self._open())
        return await asyncio.shield(self._opening)

    async def _open(self) -> Sandbox:
        try:
            sandbox = await self._made()
        except PortwayError as error:
            self._reason = error.message
            if self._state is not SessionState.DELETING:
                self._set(SessionState.FAILED)
            raise
        finally:
            self._opening = None
        self._sandbox = sandbox
        self._reason = ""
        self._unenforced = sandbox.unenforced
        self.touch()
        if self._state is not SessionState.DELETING:
            self._set(SessionState.READY)
        return sandbox

    async def _made(self) -> Sandbox:
        """Every way in which it can fail has a meaning."""
        name = self.ref.session_id
        try:
            async with asyncio.timeout(self._patience):
                if self._leaving is not None:
                    # However it went: what could not be taken down must not keep the session from coming back.
                    await asyncio.wait([self._leaving])
                    self._leaving = None
                return await self._make(self.spec)
        except TimeoutError:
            raise Unavailable(
                f"session {name!r} did not come up within {self._patience:g} s and was given up; try again, and look "
                "at the box's log",
                retry_after=5.0,
            ) from None
        except asyncio.CancelledError:
            if self._state is not SessionState.DELETING:
                raise
            raise Unavailable(
                f"session {name!r} was deleted while it was made; ask again to have it", retry_after=0.1
            ) from None
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise LimitExceeded(
                    f"the disk of the box has no room for session {name!r}; delete sessions or free space",
                    reason=Reason.DISK_FULL,
                ) from error
            raise Unavailable(f"session {name!r} could not be made: {error.strerror}; look at the box's log") from error

    async def set_skills(self, skills: tuple[SessionSkill, ...], mounts: tuple[SkillMount, ...]) -> int:
        """Shows other skills. Returns how many commands were ended for it; where it fails nothing has changed."""
        async with self._changing:
            before = self.spec
            if skills == before.skills:
                return 0
            # First, so that a sandbox that is made anew meanwhile has them.
            self.spec = dataclasses.replace(before, skills=skills)
            try:
                async with self.using() as opened:
                    killed = await opened.sandbox.show_skills(mounts)
            except BaseException:
                self.spec = dataclasses.replace(self.spec, skills=before.skills)
                raise
            self._on_change(self)
            return killed

    @asynccontextmanager
    async def using(self, kind: str = CALL, name: str = "") -> AsyncIterator[OpenSession]:
        """While the block runs the session is not idle. `kind`: what it is; `name`: '' for a number."""
        sandbox = await self.open()
        number = next(self._numbers)
        self._uses[number] = SessionUse(kind, name or str(number), time.time())
        try:
            yield OpenSession(self.ref, self.spec, sandbox, self._count_start)
        finally:
            del self._uses[number]
            self.touch()
            self._on_release()

    def _count_start(self) -> None:
        self._started += 1

    @asynccontextmanager
    async def holding(self, socket: str) -> AsyncIterator[OpenSession]:
        """For a socket that is offered to its commands: keeps the session from being idle, and is nothing that runs."""
        async with self.using(SOCKET, socket) as opened:
            yield opened

    @asynccontextmanager
    async def running(self) -> AsyncIterator[OpenSession]:
        """For a command: takes one of the places for commands at the same time, waiting in turn for it."""
        if self._slots.locked() and self._queued >= MOST_QUEUED_COMMANDS:
            places = self.spec.concurrent_commands
            raise LimitExceeded(
                f"session {self.ref.session_id!r} already runs {places} commands and {self._queued} wait; retry later",
                retry_after=1.0,
                quota=Quota(f"session:{self.ref.session_id}", f"{places} commands at the same time"),
            )
        self._queued += 1
        try:
            await self._slots.acquire()
        finally:
            self._queued -= 1
        try:
            async with self.using(COMMAND) as opened:
                yield opened
        finally:
            self._slots.release()

    async def delete(self, *, keep_workspace: bool = False) -> int:
        """Ends and removes everything. Returns how many processes were killed."""
        self._set(SessionState.DELETING)
        if self._opening is not None:
            # Whoever waits for it is told so; one that hangs does not hold its end up.
            self._opening.cancel()
        for task in (self._opening, self._leaving):
            if task is not None:
                await asyncio.wait([task])
        sandbox, self._sandbox = self._sandbox, None
        return await sandbox.delete(keep_workspace=keep_workspace) if sandbox is not None else 0

    def _set(self, state: SessionState) -> None:
        self._state = state
        self._on_change(self)


def unavailable_while_draining() -> Unavailable:
    return Unavailable("the box is draining and takes no new work; retry on another one or later", retry_after=5.0)
