"""What this host holds in memory: sessions in use, calls and uploads under way, connections."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from portway.server.adapters.connection import Connections
from portway.server.ownership.types import Owner, OwnerKind, Source, Thing
from portway.server.runs.attempt import Attempt
from portway.server.runs.live import LiveAttempts
from portway.server.storage_engine.blobs import Blobs
from portway.server.tools.mcp.fleet import McpFleet
from portway.server.tools.mcp.types import ConnectionState


class Here:
    """Of this one host; another host on the same database lists its own."""

    def __init__(self, live: LiveAttempts, blobs: Blobs, connections: Connections, fleet: McpFleet) -> None:
        self._live = live
        self._blobs = blobs
        self._connections = connections
        self._fleet = fleet

    def sources(self) -> list[Source]:
        looks: dict[str, Callable[[Owner], Iterable[Thing]]] = {
            "session_use": self._sessions,
            "call": self._calls,
            "upload": self._uploads,
            "adapter": self._adapters,
            "mcp_session": self._mcp,
        }
        return [Source(name, partial(_paged, look)) for name, look in looks.items()]

    def uses_session(self, workspace_id: str, session_id: str) -> bool:
        """A run that executes works in it."""
        return any(True for _ in self._attempts(Owner(workspace_id, OwnerKind.SESSION, session_id)))

    def _attempts(self, owner: Owner) -> Iterator[Attempt]:
        for attempt in self._live.all():
            scope = attempt.scope
            mine = {
                OwnerKind.RUN: scope.run_id,
                OwnerKind.CONVERSATION: scope.conversation_id,
                OwnerKind.SESSION: scope.snapshot.session_id,
                OwnerKind.WORKSPACE: "",
            }[owner.kind]
            if scope.workspace_id == owner.workspace_id and mine == owner.name:
                yield attempt

    def _sessions(self, owner: Owner) -> Iterator[Thing]:
        for attempt in self._attempts(owner):
            session_id = attempt.scope.snapshot.session_id
            if session_id:
                yield Thing("session_use", f"{attempt.scope.run_id}/{session_id}", attempt.scope.run_id, "in use")

    def _calls(self, owner: Owner) -> Iterator[Thing]:
        for attempt in self._attempts(owner):
            for call_id, name in attempt.pipeline.under_way if attempt.pipeline else []:
                run_id = attempt.scope.run_id
                yield Thing("call", f"{run_id}/{call_id}", run_id, f"{name} is under way")

    def _uploads(self, owner: Owner) -> Iterator[Thing]:
        for upload in self._blobs.under_way:
            if upload.workspace_id != owner.workspace_id:
                continue
            if owner.kind is OwnerKind.WORKSPACE or (owner.kind is OwnerKind.RUN and upload.owner_id == owner.name):
                state = f"{upload.size} bytes so far"
                yield Thing("upload", upload.name, upload.owner_id or owner.workspace_id, state, upload.begin_time)

    def _adapters(self, owner: Owner) -> Iterator[Thing]:
        if owner.kind is not OwnerKind.WORKSPACE:
            return
        for connection in self._connections:
            workspace_id, adapter_id = connection.key
            if workspace_id == owner.workspace_id:
                state = f"generation {connection.generation}, {connection.held_count} deliveries are with it"
                yield Thing("lease", f"adapter/{adapter_id}", adapter_id, state)

    def _mcp(self, owner: Owner) -> Iterator[Thing]:
        for server, status in self._fleet.kept():
            if server.workspace_id != owner.workspace_id or status.state is ConnectionState.DISABLED:
                continue
            if owner.kind is OwnerKind.WORKSPACE or (
                owner.kind is OwnerKind.SESSION and owner.name == f"mcp:{server.server_id}"
            ):
                yield Thing("mcp_session", server.server_id, server.workspace_id, status.state.value)


async def _paged(look: Callable[[Owner], Iterable[Thing]], owner: Owner, after: str, limit: int) -> list[Thing]:
    found = sorted(look(owner), key=lambda thing: thing.item_id)
    return [thing for thing in found if thing.item_id > after][:limit]
