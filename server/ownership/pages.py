"""Everything that a run, a session, a conversation or the workspace holds, in pages."""

from collections.abc import Sequence

from portway.rpc.cursor import CursorCodec
from portway.rpc.errors import NotFound, Unavailable
from portway.server.conversations.store import Conversations
from portway.server.ownership.boxed import Boxed
from portway.server.ownership.here import Here
from portway.server.ownership.types import Owner, OwnerKind, Source, Thing
from portway.server.runs.store import Runs
from portway.server.tools.session_name import owner_prefix
from portway.v1 import run_pb2

DEFAULT_PAGE = 50


class Owned:
    """Looks in one source after the other; a token names the source and the last id, so pages stay true."""

    def __init__(
        self,
        sources: Sequence[Source],
        runs: Runs,
        conversations: Conversations,
        here: Here,
        boxed: Boxed,
        cursors: CursorCodec,
    ) -> None:
        self._sources = [*sources, *here.sources()]
        self._runs = runs
        self._conversations = conversations
        self._here = here
        self._boxed = boxed
        self._cursors = cursors

    async def page(self, workspace_id: str, request: run_pb2.ListOwnedRequest) -> run_pb2.ListOwnedResponse:
        """Raises NotFound, InvalidInput (page token), Unavailable (a session, while the box is away)."""
        owner = _owner(workspace_id, request)
        listing = f"owned/{workspace_id}/{owner.kind}/{owner.name}"
        place, after = 0, ""
        if request.page_token:
            begun, _, after = self._cursors.read_page(request.page_token, listing).partition(" ")
            place = int(begun)
        response = run_pb2.ListOwnedResponse()
        sources = list(self._sources)
        if owner.kind in (OwnerKind.WORKSPACE, OwnerKind.SESSION):
            away = await self._boxed.away()
            if away and owner.kind is OwnerKind.SESSION:
                raise Unavailable(away)
            if away:
                response.unlisted.append(away)
            else:
                sources += self._boxed.sources()
        await self._must_exist(owner)
        size = request.page_size or DEFAULT_PAGE
        while place < len(sources):
            wanted = size - len(response.items)
            found = await sources[place].look(owner, after, wanted + 1)
            response.items.extend(_item(thing) for thing in found[:wanted])
            if len(found) > wanted:
                last = found[wanted - 1].item_id if wanted else after
                response.next_page_token = self._cursors.write_page(listing, f"{place} {last}")
                break
            place, after = place + 1, ""
        return response

    async def _must_exist(self, owner: Owner) -> None:
        """Raises NotFound: what belongs to another workspace does not exist for this one."""
        match owner.kind:
            case OwnerKind.RUN:
                await self._runs.run(owner.workspace_id, owner.name)
            case OwnerKind.CONVERSATION:
                await self._conversations.conversation(owner.workspace_id, owner.name)
            case OwnerKind.SESSION:
                await self._session_must_exist(owner)
            case _:
                pass

    async def _session_must_exist(self, owner: Owner) -> None:
        """A session is made when it is first used and goes when it is idle: the names of a workspace's agents are known
        to be its own, and hold nothing then."""
        if owner.name.startswith(owner_prefix(owner.workspace_id)):
            return
        if self._here.uses_session(owner.workspace_id, owner.name):
            return
        if not owner.name or not await self._boxed.has(owner.workspace_id, owner.name):
            raise NotFound.of("session", owner.name)


def _owner(workspace_id: str, request: run_pb2.ListOwnedRequest) -> Owner:
    """An owner without a name is the workspace."""
    kind = OwnerKind(request.WhichOneof("owner") or OwnerKind.WORKSPACE)
    name = "" if kind is OwnerKind.WORKSPACE else str(getattr(request, kind))
    return Owner(workspace_id, kind, name)


def _item(thing: Thing) -> run_pb2.OwnedItem:
    item = run_pb2.OwnedItem(kind=thing.kind, id=thing.item_id, owner_id=thing.owner_id, state=thing.state)
    if thing.create_time:
        item.create_time.FromMicroseconds(thing.create_time)
    if thing.lease_expire_time:
        item.lease_expire_time.FromMicroseconds(thing.lease_expire_time)
    return item
