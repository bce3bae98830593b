"""The bindings that hold for a workspace, as its operators see them: its own, then the global ones."""

from portway.rpc.errors import NotFound
from portway.server.bindings.store import Bindings
from portway.server.bindings.types import GLOBAL_WORKSPACE, Binding

_OWN, _GLOBAL = "own:", "global:"


class BindingListing:
    def __init__(self, bindings: Bindings) -> None:
        self._bindings = bindings

    async def get(self, workspace_id: str, binding_id: str) -> Binding:
        """Raises NotFound."""
        try:
            return await self._bindings.binding(workspace_id, binding_id)
        except NotFound:
            return await self._bindings.binding(GLOBAL_WORKSPACE, binding_id)

    async def page(self, workspace_id: str, agent_id: str, after: str, size: int) -> tuple[list[Binding], str]:
        """By id, and where the next page begins ('' at the end). `after` '' to begin."""
        place = after or _OWN
        found: list[Binding] = []
        while True:
            part, _, last = place.partition(":")
            owner = workspace_id if part + ":" == _OWN else GLOBAL_WORKSPACE
            rows = await self._bindings.page(owner, last, size)
            for row in rows:
                place = f"{part}:{row.binding_id}"
                if not agent_id or row.spec.agent_id == agent_id:
                    found.append(row)
                if len(found) == size:
                    return found, place
            if len(rows) < size:
                if owner == GLOBAL_WORKSPACE:
                    return found, ""
                place = _GLOBAL
