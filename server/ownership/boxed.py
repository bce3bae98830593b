"""What the box holds: sessions, the processes in them, and what the machine shows of a session."""

from collections.abc import AsyncIterator

from portway.clients.box import Box
from portway.rpc.errors import NotFound
from portway.rpc.status import errors_by_meaning
from portway.server.ownership.types import Owner, OwnerKind, Source, Thing
from portway.v1 import process_pb2, session_pb2

MAX_SESSIONS = 10_000
MAX_HELD = 10_000
# By their own calls, which tell more.
_LISTED_ALREADY = ("session", "process")
_PAGE = 200
_CALL_SECONDS = 10.0
_REACH_SECONDS = 2.0
_RUNNING = (
    process_pb2.PROCESS_STATE_RUNNING,
    process_pb2.PROCESS_STATE_RESTARTING,
    process_pb2.PROCESS_STATE_STOPPING,
)


class Boxed:
    """Nothing where the host has no box."""

    def __init__(self, box: Box | None) -> None:
        self._box = box

    def sources(self) -> list[Source]:
        return [Source("session", self._sessions), Source("process", self._processes), Source("held", self._held)]

    async def away(self) -> str:
        """Why nothing of it is listed, for people; '' where it answers, or there is none."""
        if self._box is None or await self._box.reachable(_REACH_SECONDS):
            return ""
        return "sessions and processes: the box cannot be reached; see `portway status`"

    async def has(self, workspace_id: str, session_id: str) -> bool:
        """The box knows the session as one of the workspace, or still holds something of it. Raises Unavailable."""
        if self._box is None:
            return False
        try:
            await self._session(workspace_id, session_id)
        except NotFound:
            return bool(await self._things_of(workspace_id, session_id, 1))
        return True

    async def _sessions(self, owner: Owner, after: str, limit: int) -> list[Thing]:
        found = [_session_thing(one) async for one in self._of(owner) if one.session_id > after]
        return sorted(found, key=lambda thing: thing.item_id)[:limit]

    async def _processes(self, owner: Owner, after: str, limit: int) -> list[Thing]:
        found: list[Thing] = []
        sessions = [one.session_id async for one in self._of(owner)]
        for session_id in sorted(sessions):
            if session_id < after.partition("/")[0]:
                continue
            things = [_process_thing(session_id, one) async for one in self._running(owner.workspace_id, session_id)]
            found += sorted((one for one in things if one.item_id > after), key=lambda one: one.item_id)
            if len(found) >= limit:
                break
        return found[:limit]

    async def _held(self, owner: Owner, after: str, limit: int) -> list[Thing]:
        """What else one session holds: commands, sockets, control groups, mounts, devices, containers.

        Of a session that is gone, what was left behind.
        """
        if self._box is None or owner.kind is not OwnerKind.SESSION:
            return []
        found = await self._things_of(owner.workspace_id, owner.name, MAX_HELD)
        return sorted((one for one in found if one.item_id > after), key=lambda one: one.item_id)[:limit]

    async def _things_of(self, workspace_id: str, session_id: str, most: int) -> list[Thing]:
        assert self._box is not None, "whoever asks has looked"
        found: list[Thing] = []
        request = session_pb2.ListHeldRequest(session_id=session_id, workspace_id=workspace_id, page_size=_PAGE)
        while len(found) < most:
            try:
                with errors_by_meaning():
                    page = await self._box.sessions.ListHeld(request, timeout=_CALL_SECONDS)
            except NotFound:
                break
            found += [_held_thing(session_id, one) for one in page.items if one.kind not in _LISTED_ALREADY]
            request.page_token = page.next_page_token
            if not request.page_token:
                break
        return found

    async def _of(self, owner: Owner) -> AsyncIterator[session_pb2.Session]:
        """The sessions that the owner holds. Whoever asks has looked whether the box is there."""
        if self._box is None:
            return
        if owner.kind is OwnerKind.SESSION:
            try:
                yield await self._session(owner.workspace_id, owner.name)
            except NotFound:
                return
        if owner.kind is not OwnerKind.WORKSPACE:
            return
        count, request = 0, session_pb2.ListSessionsRequest(workspace_id=owner.workspace_id, page_size=_PAGE)
        while count < MAX_SESSIONS:
            with errors_by_meaning():
                page = await self._box.sessions.ListSessions(request, timeout=_CALL_SECONDS)
            for one in page.sessions:
                yield one
            count += len(page.sessions)
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    async def _session(self, workspace_id: str, session_id: str) -> session_pb2.Session:
        if self._box is None:
            raise NotFound.of("session", session_id)
        request = session_pb2.GetSessionRequest(session_id=session_id, workspace_id=workspace_id)
        with errors_by_meaning():
            answer = await self._box.sessions.GetSession(request, timeout=_CALL_SECONDS)
        return answer.session

    async def _running(self, workspace_id: str, session_id: str) -> AsyncIterator[process_pb2.Process]:
        assert self._box is not None, "a session was found in it"
        request = process_pb2.ListProcessesRequest(session_id=session_id, workspace_id=workspace_id, page_size=_PAGE)
        while True:
            try:
                with errors_by_meaning():
                    page = await self._box.processes.ListProcesses(request, timeout=_CALL_SECONDS)
            except NotFound:
                # It was deleted since it was listed.
                return
            for one in page.processes:
                if one.state in _RUNNING:
                    yield one
            request.page_token = page.next_page_token
            if not request.page_token:
                return


def _session_thing(session: session_pb2.Session) -> Thing:
    state = session_pb2.SessionState.Name(session.state).removeprefix("SESSION_STATE_").lower()
    lease = 0
    if session.spec.HasField("ttl") and session.HasField("last_use_time"):
        lease = session.last_use_time.ToMicroseconds() + session.spec.ttl.ToMicroseconds()
    shown = f"{state}, {session.running_count} commands and processes run"
    return Thing(
        "session", session.session_id, session.workspace_id, shown, session.create_time.ToMicroseconds(), lease
    )


def _process_thing(session_id: str, process: process_pb2.Process) -> Thing:
    state = process_pb2.ProcessState.Name(process.state).removeprefix("PROCESS_STATE_").lower()
    return Thing(
        "process", f"{session_id}/{process.process_id}", session_id, state, process.start_time.ToMicroseconds()
    )


def _held_thing(session_id: str, item: session_pb2.HeldItem) -> Thing:
    name = f"{session_id}/{item.kind}/{item.id}"
    return Thing(item.kind, name, session_id, item.state, item.create_time.ToMicroseconds())
