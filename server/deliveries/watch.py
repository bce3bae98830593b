"""Following the deliveries of a workspace: what is open, then every change."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from portway.rpc.cursor import Cursor
from portway.server.deliveries.feed import DeliveryFeed
from portway.server.deliveries.ledger import DeliveryLedger
from portway.server.deliveries.store import FIRST_PAGE
from portway.server.deliveries.types import Delivery, DeliveryFilter, DeliveryState

BATCH = 64
OPEN_AT_MOST = 1_000
_OPEN = (DeliveryState.PENDING, DeliveryState.SENT, DeliveryState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class DeliveryBatch:
    """`position`: behind these. `snapshot`: they are what is open, oldest first. `gap`: changes before it are lost;
    `new_epoch`: because the host was started anew."""

    position: Cursor
    deliveries: tuple[Delivery, ...] = ()
    snapshot: bool = False
    gap: bool = False
    new_epoch: bool = False


class DeliveryWatch:
    """Makes watches. A watcher has a place in the latest changes and nothing else that could grow."""

    def __init__(self, feed: DeliveryFeed, ledger: DeliveryLedger, epoch: int) -> None:
        self._feed = feed
        self._ledger = ledger
        self._epoch = epoch

    async def follow(
        self, workspace_id: str, conversation_id: str, after: Cursor | None, draining: asyncio.Event
    ) -> AsyncGenerator[DeliveryBatch, None]:
        """Ends when the host stops."""
        seen = after.sequence if after is not None and after.epoch == self._epoch else None
        if after is not None and seen is None:
            yield DeliveryBatch(self._at(self._feed.latest(workspace_id)), gap=True, new_epoch=True)
        while not draining.is_set():
            found = self._feed.after(workspace_id, seen, BATCH) if seen is not None else None
            if found is None or seen is None:
                lost, seen = seen is not None, self._feed.latest(workspace_id)
                if lost:
                    yield DeliveryBatch(self._at(seen), gap=True)
                yield DeliveryBatch(self._at(seen), await self._open(workspace_id, conversation_id), snapshot=True)
                continue
            if not found:
                await self._wait(workspace_id, seen, draining)
                continue
            seen += len(found)
            fitting = tuple(one for one in found if conversation_id in ("", one.conversation_id))
            if fitting:
                yield DeliveryBatch(self._at(seen), tuple(self._ledger.shown(one) for one in fitting))

    async def _open(self, workspace_id: str, conversation_id: str) -> tuple[Delivery, ...]:
        which = DeliveryFilter(states=_OPEN, conversation_id=conversation_id)
        found, _ = await self._ledger.page(workspace_id, which, FIRST_PAGE, OPEN_AT_MOST)
        return tuple(reversed(found))

    async def _wait(self, workspace_id: str, seen: int, draining: asyncio.Event) -> None:
        waiting = asyncio.ensure_future(self._feed.wait(workspace_id, seen))
        ending = asyncio.ensure_future(draining.wait())
        try:
            await asyncio.wait((waiting, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            ending.cancel()

    def _at(self, sequence: int) -> Cursor:
        return Cursor(self._epoch, sequence)
