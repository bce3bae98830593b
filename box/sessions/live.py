"""One session in memory: made once whoever asks, used by many, deleted once."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from portway.box.backends.interface import Sandbox
from portway.box.sessions.types import Session, SessionRef, SessionSpec, SessionState
from portway.box.tasks import TaskOwner
from portway.rpc.errors import LimitExceeded, NotFound, PortwayError, Quota, Unavailable

MOST_QUEUED_COMMANDS = 64


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session that can be used now, with what commands and files need to know of it."""

    ref: SessionRef
    spec: SessionSpec
    sandbox: Sandbox


class LiveSession:
    """Holds the sandbox of a session, opens it when it is needed, and counts what runs in it."""

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
    ) -> None:
        self.ref = ref
        self.spec = spec
        self._backend = backend
        self._make = make
        self._on_change = on_change
        self._on_release = on_release
        self._tasks = tasks
        self._create_time = create_time or time.time()
        self._last_use = time.time()
        self._state = SessionState.CREATING
        self._reason = ""
        self._sandbox: Sandbox | None = None
        self._opening: asyncio.Task[Sandbox] | None = None
        self._leaving: asyncio.Task[int] | None = None
        self._running = 0
        self._holders = 0
        self._queued = 0
        self._unenforced: tuple[str, ...] = ()
        self._slots = asyncio.Semaphore(spec.concurrent_commands)

    @property
    def create_time(self) -> float:
        return self._create_time

    @property
    def running_count(self) -> int:
        return self._running

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
            running_count=self._running,
            unenforced_limits=self._unenforced,
        )

    def is_idle_since(self, now: float) -> bool:
        """Whether nothing used it for longer than it may stay unused."""
        idle = self._running == 0 and self._holders == 0 and now - self._last_use > self.spec.ttl
        return idle and self._state in (SessionState.READY, SessionState.FAILED) and not self.spec.persistent

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
        if self._sandbox is not None and self._sandbox.alive:
            return self._sandbox
        self.lose_sandbox()
        if self._opening is None:
            self._opening = self._tasks.start(self._open())
        return await asyncio.shield(self._opening)

    async def _open(self) -> Sandbox:
        try:
            if self._leaving is not None:
                # However it went: what could not be taken down must not keep the session from coming back.
                await asyncio.wait([self._leaving])
                self._leaving = None
            sandbox = await self._make_or_say()
        except PortwayError as error:
            self._reason = error.message
            self._set(SessionState.FAILED)
            raise
        finally:
            self._opening = None
        self._sandbox = sandbox
        self._reason = ""
        self._unenforced = sandbox.unenforced
        self._last_use = time.time()
        if self._state is not SessionState.DELETING:
            self._set(SessionState.READY)
        return sandbox

    async def _make_or_say(self) -> Sandbox:
        try:
            return await self._make(self.spec)
        except OSError as error:
            raise Unavailable(
                f"the session could not be made: {error.strerror}; look at the disk, memory and open files of the box",
                retry_after=1.0,
            ) from error

    @asynccontextmanager
    async def using(self) -> AsyncIterator[OpenSession]:
        """For short work such as files: keeps the session from being idle."""
        sandbox = await self.open()
        self._running += 1
        try:
            yield OpenSession(self.ref, self.spec, sandbox)
        finally:
            self._running -= 1
            self._last_use = time.time()
            self._on_release()

    @asynccontextmanager
    async def holding(self) -> AsyncIterator[OpenSession]:
        """For what is offered to its commands: keeps the session from being idle, and is nothing that runs."""
        self._holders += 1
        try:
            yield OpenSession(self.ref, self.spec, await self.open())
        finally:
            self._holders -= 1
            self._last_use = time.time()

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
            async with self.using() as opened:
                yield opened
        finally:
            self._slots.release()

    async def delete(self, *, keep_workspace: bool = False) -> int:
        """Ends and removes everything. Returns how many processes were killed."""
        self._set(SessionState.DELETING)
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
