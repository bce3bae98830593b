"""All sessions of this box: made, found, listed, watched, deleted, and removed when nobody uses them."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import structlog

from portway.box.backends.interface import Backend, Sandbox
from portway.box.backends.types import SandboxSpec
from portway.box.isolation.limits import Limits
from portway.box.sessions.compatibility import differences
from portway.box.sessions.environment import check_environment, session_environment
from portway.box.sessions.live import LiveSession, unavailable_while_draining
from portway.box.sessions.mounts import MountRules, check_working_directory
from portway.box.sessions.profiles import ProfileBook
from portway.box.sessions.store import SessionStore, StoredSession, key_of
from portway.box.sessions.types import Session, SessionRef, SessionRequest, SessionSpec
from portway.box.sessions.watch import SessionFeed
from portway.box.status.errors import ErrorLog
from portway.box.tasks import TaskOwner
from portway.rpc.errors import (
    FieldViolation,
    LimitExceeded,
    NotFound,
    PortwayError,
    Quota,
    Reason,
    WrongState,
)

_TOMBSTONE_SECONDS = 3600.0
_MOST_TOMBSTONES = 10_000
_BYTES_PER_INODE = 8192


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How many sessions there may be."""

    total: int = 256
    per_workspace: int = 128


class SessionDirectory:
    """Rules over sessions. Nothing here waits while holding anything that another session needs."""

    def __init__(
        self,
        backend: Backend,
        profiles: ProfileBook,
        mounts: MountRules,
        store: SessionStore,
        limits: SessionLimits,
        errors: ErrorLog,
        *,
        enabled: bool = True,
    ) -> None:
        self._backend = backend
        self._profiles = profiles
        self._mounts = mounts
        self._store = store
        self._limits = limits
        self._errors = errors
        self._enabled = enabled
        self._sessions: dict[SessionRef, LiveSession] = {}
        self._leaving: dict[SessionRef, asyncio.Task[int]] = {}
        self._deleted: OrderedDict[SessionRef, float] = OrderedDict()
        self.feed = SessionFeed()
        self._draining = False
        self._released = asyncio.Event()
        self._tasks = TaskOwner("sessions")
        self.reaped_count = 0
        self._before_delete: list[Callable[[SessionRef], None]] = []

    def before_delete(self, tell: Callable[[SessionRef], None]) -> None:
        """Has `tell` called for each session just before what runs in it is ended."""
        self._before_delete.append(tell)

    def restore(self) -> int:
        """Takes up the persistent sessions of an earlier life."""
        for stored in self._store.load():
            session = self._live(stored.ref, stored.spec, stored.create_time)
            self._sessions[stored.ref] = session
            session.wake_later()
        return len(self._sessions)

    @property
    def count(self) -> int:
        return len(self._sessions)

    @property
    def running_count(self) -> int:
        return sum(session.running_count for session in self._sessions.values())

    @property
    def draining(self) -> bool:
        return self._draining

    def drain(self) -> None:
        """Refuses new work from here on, and ends the watches."""
        self._draining = True
        self.feed.close()

    async def until_idle(self) -> None:
        """Waits until nothing runs in any session."""
        while self.running_count:
            self._released.clear()
            await self._released.wait()

    def require_open(self) -> None:
        """Raises `Unavailable` while the box drains, `WrongState` where it is switched off."""
        if self._draining:
            raise unavailable_while_draining()
        if not self._enabled:
            raise WrongState(
                "the box is switched off by the operator (`box.enabled: false`)", reason=Reason.NOT_CONFIGURED
            )

    async def create(self, ref: SessionRef, request: SessionRequest) -> tuple[Session, bool]:
        """The session, ready, and whether it was there before."""
        self.require_open()
        spec = self._profiles.resolve(request)
        while ref not in self._sessions and ref in self._leaving:
            # The one before has the same files: they must be gone first.
            await asyncio.wait([self._leaving[ref]])
            self.require_open()
        existing = self._sessions.get(ref)
        if existing is not None:
            _require_compatible(ref, differences(request, spec, existing.spec))
            await existing.open()
            return existing.describe(), True
        self._check(spec)
        self._require_room(ref.workspace_id)
        session = self._sessions[ref] = self._live(ref, spec)
        self._deleted.pop(ref, None)
        try:
            await session.open()
        except PortwayError as error:
            self._errors.note(str(error.reason), error.message, ref.session_id)
            # A session that could not be made takes no place; its caller has the reason.
            if self._sessions.get(ref) is session:
                del self._sessions[ref]
                await asyncio.to_thread(self._store.forget, ref)
                self.feed.deleted(session.describe())
            raise
        return session.describe(), False

    def _check(self, spec: SessionSpec) -> None:
        check_working_directory(spec.working_directory, self._mounts.mounts(spec), "spec.working_directory")
        self._mounts.workspace(spec)
        check_environment(spec.env, "spec.env")

    def _require_room(self, workspace_id: str) -> None:
        own = sum(1 for ref in self._sessions if ref.workspace_id == workspace_id)
        for count, most, whose in (
            (len(self._sessions), self._limits.total, "this box"),
            (own, self._limits.per_workspace, f"workspace {workspace_id!r}"),
        ):
            if count >= most:
                raise LimitExceeded(
                    f"{whose} already has {count} sessions; delete one, or wait until an idle one is removed",
                    retry_after=10.0,
                    quota=Quota(whose, f"at most {most} sessions"),
                )

    def _live(self, ref: SessionRef, spec: SessionSpec, create_time: float | None = None) -> LiveSession:
        async def make(spec: SessionSpec) -> Sandbox:
            if spec.persistent:
                # Part of the opening, which a deletion waits for: nothing is noted down after a session is gone.
                await asyncio.to_thread(self._store.save, StoredSession(ref, spec, session.create_time))
            return await self._backend.create(self._sandbox_spec(ref, spec))

        def changed(live: LiveSession) -> None:
            self.feed.changed(live.describe())

        session = LiveSession(
            ref, spec, self._backend.name, make, changed, self._released.set, self._tasks, create_time=create_time
        )
        return session

    def _sandbox_spec(self, ref: SessionRef, spec: SessionSpec) -> SandboxSpec:
        limits = Limits(
            cpu_millis=spec.cpu_millis,
            memory_bytes=spec.memory_bytes,
            pids=spec.pids,
            disk_bytes=spec.disk_bytes,
            inodes=max(1024, spec.disk_bytes // _BYTES_PER_INODE),
        )
        return SandboxSpec(
            key=key_of(ref),
            limits=limits,
            network=spec.network.mode,
            read_only_root=spec.read_only_root,
            persistent=spec.persistent,
            env=tuple(session_environment(spec).items()),
            directory=spec.working_directory,
            # Judged again at every opening: an operator may have taken a root away meanwhile.
            mounts=self._mounts.mounts(spec),
            workspace=self._mounts.workspace(spec),
            image=spec.image,
        )

    def get(self, ref: SessionRef) -> LiveSession:
        session = self._sessions.get(ref)
        if session is None:
            raise NotFound.of("session", ref.session_id)
        return session

    def persistent(self) -> list[SessionRef]:
        return [ref for ref, session in self._sessions.items() if session.spec.persistent]

    def list(self, workspace_id: str, labels: Mapping[str, str]) -> list[Session]:
        """Newest first."""
        found = [
            session.describe()
            for ref, session in self._sessions.items()
            if ref.workspace_id == workspace_id and labels.items() <= session.spec.labels.items()
        ]
        return sorted(found, key=newest_first)

    async def delete(self, ref: SessionRef) -> int:
        session = self._sessions.pop(ref, None)
        if session is None:
            if ref in self._deleted and time.monotonic() - self._deleted[ref] < _TOMBSTONE_SECONDS:
                return 0
            raise NotFound.of("session", ref.session_id)
        self._deleted[ref] = time.monotonic()
        while len(self._deleted) > _MOST_TOMBSTONES:
            self._deleted.popitem(last=False)
        # Shielded: a deletion that began goes on when its caller goes away.
        leaving = self._leaving[ref] = self._tasks.start(self._delete(session))
        leaving.add_done_callback(lambda _: self._leaving.pop(ref, None))
        return await asyncio.shield(leaving)

    async def _delete(self, session: LiveSession) -> int:
        for tell in self._before_delete:
            tell(session.ref)
        # First of all: after a kill in the middle of this it must not come back with half of its files.
        await asyncio.to_thread(self._store.forget, session.ref)
        killed = await session.delete()
        # A session that was not opened since the box started has a workspace and no sandbox.
        await self._backend.discard(key_of(session.ref))
        self.feed.deleted(session.describe())
        return killed

    def lose_sandboxes(self) -> None:
        for session in self._sessions.values():
            session.lose_sandbox()

    async def reap_forever(self, interval: float) -> None:
        """Removes sessions that nobody used for their time to live, looking every `interval` seconds."""
        while True:
            await asyncio.sleep(interval)
            await self.reap(time.time())

    async def reap(self, now: float) -> int:
        idle = [ref for ref, session in self._sessions.items() if session.is_idle_since(now)]
        reaped = 0
        for ref in idle:
            session = self._sessions.get(ref)
            # While others were removed, somebody may have begun to use this one.
            if session is None or not session.is_idle_since(now):
                continue
            structlog.get_logger().info("removing an idle session", session=str(ref))
            try:
                await self.delete(ref)
            except (PortwayError, OSError) as error:
                # One that cannot be taken down must not end the box, and all others with it.
                self._errors.note("BACKEND_FAILED", f"an idle session was not removed: {error}", ref.session_id)
            else:
                reaped += 1
        self.reaped_count += reaped
        return reaped

    async def close(self) -> None:
        """Ends everything; persistent workspaces stay."""
        live = list(self._sessions.values())
        self._sessions.clear()
        await asyncio.gather(*(session.delete(keep_workspace=session.spec.persistent) for session in live))
        await self._tasks.close(cancel=False)


def newest_first(session: Session) -> tuple[float, str]:
    return -session.create_time, session.ref.session_id


def _require_compatible(ref: SessionRef, fields: Iterable[str]) -> None:
    violations = [FieldViolation(field, "differs from the session that exists") for field in fields]
    if violations:
        names = ", ".join(violation.field for violation in violations)
        raise WrongState(f"session {ref.session_id!r} exists with another spec: {names} differ", fields=violations)
