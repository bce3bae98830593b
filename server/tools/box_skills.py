"""Skills of runs in the sessions of the box: their files put there once, the set changed where it changed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Sequence

from portway.clients.box import Box
from portway.rpc.client_stream import half_close, send
from portway.rpc.errors import InvalidInput, NotFound, PortwayError, WrongState
from portway.rpc.status import errors_by_meaning
from portway.server.tools.box import ShownSkill, SkillsOfSessions
from portway.server.tools.types import BoxSession
from portway.v1 import session_pb2, skill_mount_pb2

_CALL_SECONDS = 60.0
_PREPARE_SECONDS = 150.0
_FRAME_BYTES = 1024 * 1024
_MAX_SESSIONS = 10_000


class BoxSkills:
    """Remembers what each session shows, so that a call costs nothing where nothing changed."""

    def __init__(self, box: Box, source: SkillsOfSessions | None) -> None:
        self._box = box
        self._source = source
        self._shown: OrderedDict[tuple[str, str], tuple[ShownSkill, ...]] = OrderedDict()

    async def wanted(self, session: BoxSession) -> tuple[ShownSkill, ...]:
        """What a session is to show, with all files in the box."""
        if self._source is None or not session.skills:
            return ()
        wanted = await self._source.shown(session)
        if wanted and wanted != self._shown.get(_key(session)):
            wanted = await self._put_missing(self._source, session, wanted)
        return wanted

    def note(self, session: BoxSession, shown: tuple[ShownSkill, ...]) -> None:
        """A session that was made shows these."""
        self._shown[_key(session)] = shown
        self._shown.move_to_end(_key(session))
        if len(self._shown) > _MAX_SESSIONS:
            self._shown.popitem(last=False)

    def forget(self, session: BoxSession) -> None:
        """What it shows is not known any more."""
        self._shown.pop(_key(session), None)

    async def show(self, session: BoxSession) -> None:
        """Has a session that exists show what it is to show. Raises what the box says where it cannot."""
        wanted = await self.wanted(session)
        if not session.skills or self._shown.get(_key(session)) == wanted:
            return
        request = skill_mount_pb2.SetSessionSkillsRequest(
            session_id=session.session_id, workspace_id=session.workspace_id, skills=messages_of(wanted)
        )
        with errors_by_meaning():
            await self._box.skills.SetSessionSkills(request, timeout=_CALL_SECONDS)
        self.note(session, wanted)

    async def prepare(self, session: BoxSession, name: str) -> str:
        """Where the Python environment of a skill is, made on first use; '' for one that needs none."""
        request = skill_mount_pb2.PrepareSkillRequest(
            session_id=session.session_id, workspace_id=session.workspace_id, name=name
        )
        with errors_by_meaning():
            return (await self._box.skills.PrepareSkill(request, timeout=_PREPARE_SECONDS)).environment

    async def _put_missing(
        self, source: SkillsOfSessions, session: BoxSession, wanted: tuple[ShownSkill, ...]
    ) -> tuple[ShownSkill, ...]:
        """What is wanted, as it is now: a skill that is changed while its files are sent is looked at once more."""
        for attempt in range(2):
            digests = sorted({one.digest for one in wanted})
            request = skill_mount_pb2.FindSkillsRequest(workspace_id=session.workspace_id, digests=digests)
            with errors_by_meaning():
                missing = set((await self._box.skills.FindSkills(request, timeout=_CALL_SECONDS)).missing)
            try:
                for one in wanted:
                    if one.digest in missing:
                        missing.discard(one.digest)
                        await self._put(session.workspace_id, one, source.archive(session.workspace_id, one.name))
                return wanted
            except (InvalidInput, NotFound):
                if attempt:
                    raise
                wanted = await source.shown(session)
        return wanted

    async def _put(self, workspace_id: str, skill: ShownSkill, archive: AsyncIterator[bytes]) -> None:
        start = skill_mount_pb2.PutSkillStart(workspace_id=workspace_id, digest=skill.digest)
        with errors_by_meaning():
            call = self._box.skills.PutSkill(timeout=_CALL_SECONDS)
            try:
                going = await send(call, skill_mount_pb2.PutSkillRequest(start=start))
                async for piece in archive:
                    if not going:
                        break
                    going = await send(call, skill_mount_pb2.PutSkillRequest(data=piece))
                await half_close(call)
                await call
            finally:
                call.cancel()


def messages_of(skills: Sequence[ShownSkill]) -> list[session_pb2.SessionSkill]:
    return [session_pb2.SessionSkill(name=one.name, digest=one.digest, writable=one.writable) for one in skills]


def shown_of(skills: Iterable[session_pb2.SessionSkill]) -> tuple[ShownSkill, ...]:
    return tuple(sorted((ShownSkill(one.name, one.digest, one.writable) for one in skills), key=lambda one: one.name))


def is_about_skills(error: PortwayError) -> bool:
    """Whether a session was refused for nothing but its skills: it exists with others, or lost some meanwhile."""
    fields = error.fields if isinstance(error, WrongState) else ()
    return bool(fields) and all(one.field.startswith("spec.skills") for one in fields)


def _key(session: BoxSession) -> tuple[str, str]:
    return session.workspace_id, session.session_id
