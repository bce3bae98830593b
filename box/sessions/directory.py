"""All sessions of this box: made, found, listed, watched, deleted, and removed when nobody uses them."""

import asyncio
import dataclasses
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from portway.box.backends.interface import Backend, Sandbox
from portway.box.backends.types import HeldThing
from portway.box.images.types import ImageName
from portway.box.network.networks import Networks
from portway.box.sessions.admission import Admission
from portway.box.sessions.compatibility import differences
from portway.box.sessions.environment import check_environment
from portway.box.sessions.judging import MountJudge
from portway.box.sessions.live import DEFAULT_PATIENCE_SECONDS, LiveSession, unavailable_while_draining
from portway.box.sessions.mounts import MountRules, check_working_directory
from portway.box.sessions.profiles import ProfileBook
from portway.box.sessions.returning import Returning
from portway.box.sessions.sandboxes import sandbox_spec
from portway.box.sessions.store import SessionStore, StoredSession, key_of
from portway.box.sessions.types import (
    Session,
    SessionFigures,
    SessionRef,
    SessionRequest,
    SessionSkill,
    SessionSpec,
    SessionState,
)
from portway.box.sessions.watch import SessionFeed
from portway.box.skills.shown import require_skills, skill_mounts
from portway.box.skills.store import SkillKey, SkillStore
from portway.box.status.errors import ErrorLog
from portway.box.tasks import TaskOwner, to_its_end
from portway.rpc.errors import FieldViolation, NotFound, PortwayError, Reason, WrongState

_TOMBSTONE_SECONDS = 3600.0
_MOST_TOMBSTONES = 10_000


class SessionDirectory:
    """Rules over sessions. Nothing here waits while holding anything that another session needs."""

    def __init__(
        self,
        backend: Backend,
        profiles: ProfileBook,
        mounts: MountRules,
        store: SessionStore,
        admission: Admission,
        errors: ErrorLog,
        skills: SkillStore,
        networks: Networks,
        *,
        enabled: bool = True,
        patience: float = DEFAULT_PATIENCE_SECONDS,
    ) -> None:
        self._backend = backend
        self._profiles = profiles
        self._mounts = MountJudge(mounts)
        self._store = store
        self._admission = admission
        self._patience = patience
        self._errors = errors
        self._skills = skills
        self._networks = networks
        self._enabled = enabled
        self._sessions: dict[SessionRef, LiveSession] = {}
        self._making: dict[SessionRef, asyncio.Task[None]] = {}
        self._leaving: dict[SessionRef, asyncio.Task[int]] = {}
        self._deleted: OrderedDict[SessionRef, float] = OrderedDict()
        self.feed = SessionFeed()
        self._draining = False
        self._on_drain: Callable[[], None] = lambda: None
        self._released = asyncio.Event()
        self._tasks = TaskOwner("sessions")
        self.reaped_count = 0
        self._before_delete: list[Callable[[SessionRef], None]] = []
        self.returning = Returning()

    def before_delete(self, tell: Callable[[SessionRef], None]) -> None:
        """Has `tell` called for each session just before what runs in it is ended."""
        self._before_delete.append(tell)

    def restore(self) -> int:
        """Takes up the persistent sessions of an earlier life."""
        for stored in self._store.load():
            session = self._live(stored.ref, stored.spec, stored.create_time)
            self._sessions[stored.ref] = session
            self.returning.add(stored.ref)
            session.wake_later()
        return len(self._sessions)

    @property
    def count(self) -> int:
        return len(self._sessions)

    @property
    def running_count(self) -> int:
        return sum(session.running_count for session in self._sessions.values())

    @property
    def counts_by_state(self) -> Mapping[str, int]:
        """How many sessions are in each state, also those whose removal is under way."""
        counts = Counter(session.state.value for session in self._sessions.values())
        counts[SessionState.DELETING.value] += len(self._leaving)
        return {state.value: counts[state.value] for state in SessionState}

    @property
    def required_probes(self) -> Sequence[str]:
        """What the operator wants to be measured before any session is made."""
        return self._admission.required

    @property
    def draining(self) -> bool:
        return self._draining

    def when_draining(self, tell: Callable[[], None]) -> None:
        """Has `tell` called when the box begins to drain."""
        self._on_drain = tell

    def drain(self) -> None:
        """Refuses new work from here on, and ends the watches."""
        self._draining = True
        self._on_drain()
        self.feed.close()

    async def until_idle(self) -> None:
        """Waits until nothing runs in any session."""
        while any(session.work_count for session in self._sessions.values()):
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
        try:
            session, existed = await self._place(ref, request)
        except PortwayError as error:
            self._errors.note(str(error.reason), error.message, ref.session_id, ref.workspace_id)
            raise
        if ref in self._making:
            # Shielded: a creation that began goes on when its caller goes away, and others may wait for it too.
            await asyncio.shield(self._making[ref])
        else:
            await session.open()
        return session.describe(), existed

    async def _place(self, ref: SessionRef, request: SessionRequest) -> tuple[LiveSession, bool]:
        self.require_open()
        spec = self._profiles.resolve(request)
        if ref not in self._sessions:
            await self._check(spec)
        while ref not in self._sessions and ref in self._leaving:
            # The one before has the same files: they must be gone first.
            await asyncio.wait([self._leaving[ref]])
            self.require_open()
        session = self._sessions.get(ref)
        if session is None:
            return self._begin(ref, spec), False
        _require_compatible(ref, differences(request, spec, session.spec))
        return session, True

    def _begin(self, ref: SessionRef, spec: SessionSpec) -> LiveSession:
        """Takes the place of a new session and begins to make it. Nothing here waits."""
        self.require_open()
        self._admission.require_room(ref.workspace_id, self._sessions.keys() | self._leaving.keys())
        require_skills(self._skills, ref.workspace_id, spec.skills, "spec.skills")
        spec = self._with_image(ref, spec)
        session = self._sessions[ref] = self._live(ref, spec)
        self._deleted.pop(ref, None)
        making = self._making[ref] = self._tasks.start(self._make(session))
        making.add_done_callback(lambda _: self._making.pop(ref, None))
        return session

    async def _make(self, session: LiveSession) -> None:
        """A session that could not be made takes no place; its callers have the reason."""
        made = False
        try:
            await session.open()
            made = True
        finally:
            if not made and self._sessions.get(session.ref) is session:
                await asyncio.wait([self._start_deleting(session)])

    async def _check(self, spec: SessionSpec) -> None:
        self._admission.require_probes(spec)
        self._networks.check(spec.network)
        check_environment(spec.env, "spec.env")
        judged = await self._mounts.judged(spec)
        check_working_directory(spec.working_directory, judged.mounts, "spec.working_directory")

    def _with_image(self, ref: SessionRef, spec: SessionSpec) -> SessionSpec:
        images = self._backend.images
        if not spec.image or images is None:
            return spec
        try:
            image = images.for_session(ImageName(ref.workspace_id, spec.image))
        except NotFound as error:
            raise WrongState(error.message, fields=[FieldViolation("spec.image", "is not there")]) from None
        return dataclasses.replace(spec, image_reference=image.reference, image_env=dict(image.env))

    def count_of_image(self, reference: str) -> int:
        """How many sessions start from an image, those that wait to be opened again with them."""
        return sum(1 for session in self._sessions.values() if session.spec.image_reference == reference)

    def _live(self, ref: SessionRef, spec: SessionSpec, create_time: float | None = None) -> LiveSession:
        async def make(spec: SessionSpec) -> Sandbox:
            if spec.persistent:
                # Part of the opening, which a deletion waits for: nothing is noted down after a session is gone.
                await to_its_end(asyncio.to_thread(self._store.save, StoredSession(ref, spec, session.create_time)))
            # Judged again at every opening: an operator may have taken a root away meanwhile.
            judged = await self._mounts.judged(spec)
            skills = skill_mounts(self._skills, ref.workspace_id, spec.skills)
            steering = self._networks.steering(spec.network)
            sandbox = await self._backend.create(sandbox_spec(ref, spec, judged, steering, skills))
            await self.returning.opened(ref, spec, sandbox)
            return await self._networks.attach(ref, key_of(ref), spec.network, sandbox)

        def changed(live: LiveSession) -> None:
            shown = live.describe()
            self.feed.changed(shown)
            if shown.state is SessionState.FAILED:
                self._errors.note("CREATE_FAILED", shown.reason, ref.session_id, ref.workspace_id)

        session = LiveSession(
            ref,
            spec,
            self._backend.name,
            make,
            changed,
            self._released.set,
            self._tasks,
            create_time=create_time,
            patience=self._patience,
        )
        return session

    async def set_skills(self, ref: SessionRef, skills: tuple[SessionSkill, ...]) -> int:
        """Has a session show these skills. Returns how many commands had to be ended for it."""
        self.require_open()
        session = self.get(ref)
        require_skills(self._skills, ref.workspace_id, skills, "skills")
        # Shielded: a change that began goes on when its caller goes away.
        return await asyncio.shield(self._tasks.start(self._set_skills(session, skills)))

    async def _set_skills(self, session: LiveSession, skills: tuple[SessionSkill, ...]) -> int:
        ref = session.ref
        killed = await session.set_skills(skills, skill_mounts(self._skills, ref.workspace_id, skills))
        if session.spec.persistent and self._sessions.get(ref) is session:
            await asyncio.to_thread(self._store.save, StoredSession(ref, session.spec, session.create_time))
        return killed

    def shown_skills(self) -> frozenset[str]:
        """The folders of the skills that sessions show. May be called on any thread."""
        return frozenset(
            SkillKey(ref.workspace_id, skill.digest).folder
            for ref, session in list(self._sessions.items())
            for skill in session.spec.skills
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

    async def figures(self, workspace_id: str, limit: int) -> tuple[Sequence[SessionFigures], int]:
        """Of the sessions of a workspace that were used last, and how many others there are."""
        own = [session for ref, session in self._sessions.items() if ref.workspace_id == workspace_id]
        own.sort(key=lambda session: -session.describe().last_use_time)
        return [await session.figures() for session in own[:limit]], max(0, len(own) - limit)

    async def delete(self, ref: SessionRef) -> int:
        """Returns how many processes were killed; 0 for one that is gone, within the hour."""
        session = self._sessions.get(ref)
        if session is not None:
            # Shielded: a deletion that began goes on when its caller goes away.
            return await asyncio.shield(self._start_deleting(session))
        if ref in self._leaving:
            await asyncio.shield(self._leaving[ref])
        elif not self.was_deleted(ref):
            raise NotFound.of("session", ref.session_id)
        return 0

    def was_deleted(self, ref: SessionRef) -> bool:
        """Within the hour."""
        return ref in self._deleted and time.monotonic() - self._deleted[ref] < _TOMBSTONE_SECONDS

    def _start_deleting(self, session: LiveSession) -> "asyncio.Task[int]":
        """From here on nobody finds it. Nothing here waits."""
        ref = session.ref
        del self._sessions[ref]
        self._deleted[ref] = time.monotonic()
        while len(self._deleted) > _MOST_TOMBSTONES:
            self._deleted.popitem(last=False)
        leaving = self._leaving[ref] = self._tasks.start(self._delete(session))
        leaving.add_done_callback(lambda _: self._leaving.pop(ref, None))
        return leaving

    async def _delete(self, session: LiveSession) -> int:
        ref = session.ref
        try:
            for tell in self._before_delete:
                tell(ref)
            # First of all: after a kill in the middle of this it must not come back with half of its files.
            await asyncio.to_thread(self._store.forget, ref)
            killed = await session.delete()
            # A session that was not opened since the box started has a workspace and no sandbox.
            await self._backend.discard(key_of(ref))
        except (PortwayError, OSError) as error:
            self._errors.note("DELETE_FAILED", f"something of it is left: {error}", ref.session_id, ref.workspace_id)
            raise
        finally:
            self.feed.deleted(session.describe())
        return killed

    async def held(self, ref: SessionRef) -> Sequence[HeldThing]:
        """What it holds, by kind and name: as the box knows it, and as the machine shows it. Raises `NotFound`."""
        session = self._sessions.get(ref)
        if session is None and ref not in self._leaving and not self.was_deleted(ref):
            raise NotFound.of("session", ref.session_id)
        known = [] if session is None else _known(session)
        return sorted([*known, *await self._backend.held(key_of(ref))])

    def lose_sandboxes(self) -> None:
        for session in self._sessions.values():
            session.lose_sandbox()

    async def reap_forever(self, interval: float) -> None:
        """Removes sessions that nobody used for their time to live, looking every `interval` seconds."""
        while True:
            await asyncio.sleep(interval)
            self.reap(time.monotonic())

    def reap(self, now: float) -> int:
        """Begins the removal of all that are idle. Nothing waits for one that takes its time to go."""
        idle = [session for session in self._sessions.values() if session.is_idle_since(now)]
        for session in idle:
            structlog.get_logger().info("removing an idle session", session=str(session.ref))
            self._start_deleting(session)
        self.reaped_count += len(idle)
        return len(idle)

    async def close(self) -> None:
        """Ends everything; persistent workspaces stay."""
        live = list(self._sessions.values())
        self._sessions.clear()
        ends = (session.delete(keep_workspace=session.spec.persistent) for session in live)
        for ended in await asyncio.gather(*ends, return_exceptions=True):
            if isinstance(ended, BaseException):
                structlog.get_logger().error("a session could not be taken down", error=repr(ended))
        await self._tasks.close(cancel=False)


def newest_first(session: Session) -> tuple[float, str]:
    return -session.create_time, session.ref.session_id


def _known(session: LiveSession) -> list[HeldThing]:
    own = HeldThing("session", session.ref.session_id, session.state.value, session.create_time)
    return [own, *(HeldThing(use.kind, use.name, "under way", use.since) for use in session.uses)]


def _require_compatible(ref: SessionRef, fields: Iterable[str]) -> None:
    violations = [FieldViolation(field, "differs from the session that exists") for field in fields]
    if violations:
        names = ", ".join(violation.field for violation in violations)
        raise WrongState(f"session {ref.session_id!r} exists with another spec: {names} differ", fields=violations)
