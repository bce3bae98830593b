"""The outbox as people see it: what is stored, and over it what an adapter holds right now."""

import dataclasses
from collections.abc import Sequence

from portway.server.deliveries.outbox import Outbox
from portway.server.deliveries.store import Deliveries
from portway.server.deliveries.types import Delivery, DeliveryFilter, DeliveryState

Place = tuple[int, str]


class DeliveryLedger:
    """Reads deliveries. SENDING is known to the outbox alone."""

    def __init__(self, deliveries: Deliveries, outbox: Outbox) -> None:
        self._deliveries = deliveries
        self._outbox = outbox

    async def get(self, workspace_id: str, delivery_id: str) -> Delivery:
        """Raises NotFound."""
        return self.shown(await self._deliveries.delivery(workspace_id, delivery_id))

    async def page(
        self, workspace_id: str, which: DeliveryFilter, after: Place, limit: int
    ) -> tuple[list[Delivery], Place | None]:
        """Newest first, and where the next page begins; None at the end."""
        stored = dataclasses.replace(which, states=_stored(which.states))
        found: list[Delivery] = []
        while True:
            rows = await self._deliveries.page(workspace_id, stored, after, limit)
            for row in rows:
                delivery = self.shown(row)
                if not which.states or delivery.state in which.states:
                    found.append(delivery)
                after = (row.create_time, row.delivery_id)
                if len(found) == limit:
                    return found, after
            if len(rows) < limit:
                return found, None

    def shown(self, delivery: Delivery) -> Delivery:
        """With the state that it has for the running host."""
        if delivery.state is DeliveryState.PENDING and self._outbox.in_flight(delivery):
            return dataclasses.replace(delivery, state=DeliveryState.SENDING)
        return delivery


def _stored(states: Sequence[DeliveryState]) -> tuple[DeliveryState, ...]:
    return tuple(dict.fromkeys(DeliveryState.PENDING if one is DeliveryState.SENDING else one for one in states))
