"""The latest changes of deliveries, for whoever watches. A view in memory: the database has what is open."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from portway.server.deliveries.types import Delivery

REMEMBERED = 2_000
WORKSPACES = 256


@dataclass(slots=True)
class _Changes:
    """`latest` counts the changes since the host was started."""

    latest: int = 0
    recent: deque[Delivery] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    watchers: int = 0


class DeliveryFeed:
    """Told of every change after its commit; never waits for anybody."""

    def __init__(self) -> None:
        self._workspaces: OrderedDict[str, _Changes] = OrderedDict()
        # What was forgotten may not be counted from the beginning again.
        self._forgotten = 0

    def publish(self, delivery: Delivery) -> None:
        changes = self._of(delivery.workspace_id)
        changes.latest += 1
        changes.recent.append(delivery)
        changes.changed.set()
        changes.changed = asyncio.Event()

    def latest(self, workspace_id: str) -> int:
        """How many changes there were."""
        return self._of(workspace_id).latest

    def after(self, workspace_id: str, seen: int, limit: int) -> Sequence[Delivery] | None:
        """The next changes; None where some of them are not remembered, or never were."""
        changes = self._of(workspace_id)
        behind = changes.latest - seen
        if not 0 <= behind <= len(changes.recent):
            return None
        first = len(changes.recent) - behind
        return [changes.recent[index] for index in range(first, min(first + limit, len(changes.recent)))]

    async def wait(self, workspace_id: str, seen: int) -> None:
        """Until there is a change after `seen`."""
        changes = self._of(workspace_id)
        changes.watchers += 1
        try:
            while changes.latest <= seen:
                await changes.changed.wait()
        finally:
            changes.watchers -= 1

    def _of(self, workspace_id: str) -> _Changes:
        changes = self._workspaces.get(workspace_id)
        if changes is None:
            changes = self._workspaces[workspace_id] = _Changes(latest=self._forgotten)
            self._forget()
        self._workspaces.move_to_end(workspace_id)
        return changes

    def _forget(self) -> None:
        for workspace_id, changes in list(self._workspaces.items()):
            if len(self._workspaces) <= WORKSPACES:
                return
            if not changes.watchers:
                del self._workspaces[workspace_id]
                self._forgotten = max(self._forgotten, changes.latest + 1)
