"""SessionService on the wire."""

from collections.abc import Sequence
from typing import Never

from portway.box.backends.types import HeldThing
from portway.box.paging import Pager
from portway.box.sessions.directory import SessionDirectory, newest_first
from portway.box.sessions.types import SessionRef
from portway.box.sessions.watch import SessionChanged, SessionDeleted
from portway.box.sessions.wire import held_to, ref_to, request_from, session_to
from portway.box.workspaces import workspace_of
from portway.rpc.call import Call
from portway.rpc.identity import Caller
from portway.v1 import session_pb2 as pb

DEFAULT_PAGE = 50
_SNAPSHOT_LIMIT = 1000


def session_ref(caller: Caller, workspace_id: str, session_id: str) -> SessionRef:
    return SessionRef(workspace_of(caller, workspace_id, "session"), session_id)


class SessionServicer:
    """Translates; the rules are the directory's."""

    def __init__(self, sessions: SessionDirectory, pages: Pager) -> None:
        self._sessions = sessions
        self._pages = pages

    async def CreateSession(
        self, request: pb.CreateSessionRequest, call: Call[Never, Never]
    ) -> pb.CreateSessionResponse:
        ref = SessionRef(workspace_of(call.caller, request.workspace_id), request.session_id)
        session, existed = await self._sessions.create(ref, request_from(request.spec))
        return pb.CreateSessionResponse(session=session_to(session), existed=existed)

    async def GetSession(self, request: pb.GetSessionRequest, call: Call[Never, Never]) -> pb.GetSessionResponse:
        session = self._sessions.get(session_ref(call.caller, request.workspace_id, request.session_id))
        figures = await session.figures()
        return pb.GetSessionResponse(session=session_to(figures.session, figures))

    async def ListSessions(self, request: pb.ListSessionsRequest, call: Call[Never, Never]) -> pb.ListSessionsResponse:
        workspace_id = workspace_of(call.caller, request.workspace_id)
        listing = f"sessions/{workspace_id}/{sorted(request.labels.items())}"
        found = self._sessions.list(workspace_id, request.labels)
        size = request.page_size or DEFAULT_PAGE
        page, token = self._pages.page(found, newest_first, listing, request.page_token, size)
        return pb.ListSessionsResponse(sessions=[session_to(session) for session in page], next_page_token=token)

    async def DeleteSession(
        self, request: pb.DeleteSessionRequest, call: Call[Never, Never]
    ) -> pb.DeleteSessionResponse:
        killed = await self._sessions.delete(session_ref(call.caller, request.workspace_id, request.session_id))
        return pb.DeleteSessionResponse(killed_process_count=killed)

    async def WatchSessions(self, request: pb.WatchSessionsRequest, call: Call[None, pb.WatchSessionsResponse]) -> None:
        workspace_id, labels = workspace_of(call.caller, request.workspace_id), dict(request.labels)
        with self._sessions.feed.watch(workspace_id, labels) as watcher:
            now = self._sessions.list(workspace_id, labels)
            snapshot = pb.SessionSnapshot(sessions=[session_to(session) for session in now[:_SNAPSHOT_LIMIT]])
            await call.write(pb.WatchSessionsResponse(snapshot=snapshot))
            for session in now[_SNAPSHOT_LIMIT:]:
                await call.write(pb.WatchSessionsResponse(changed=session_to(session)))
            while (change := await watcher.next()) is not None:
                match change:
                    case SessionChanged(session):
                        await call.write(pb.WatchSessionsResponse(changed=session_to(session)))
                    case SessionDeleted(ref):
                        await call.write(pb.WatchSessionsResponse(deleted=ref_to(ref)))

    async def ListHeld(self, request: pb.ListHeldRequest, call: Call[Never, Never]) -> pb.ListHeldResponse:
        ref = session_ref(call.caller, request.workspace_id, request.session_id)
        size = request.page_size or DEFAULT_PAGE
        things = await self._sessions.held(ref)
        page: Sequence[HeldThing]
        page, token = self._pages.page(
            things, lambda thing: (thing.kind, thing.name), f"held/{ref}", request.page_token, size
        )
        return pb.ListHeldResponse(items=[held_to(thing) for thing in page], next_page_token=token)
