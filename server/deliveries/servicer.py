"""DeliveryService on the wire."""

from typing import Never

from portway.rpc.call import Call
from portway.rpc.cursor import CursorCodec
from portway.server.deliveries.ledger import DeliveryLedger, Place
from portway.server.deliveries.outbox import Outbox
from portway.server.deliveries.store import FIRST_PAGE
from portway.server.deliveries.types import DeliveryFilter
from portway.server.deliveries.wire import delivery_message, states_of
from portway.v1 import delivery_pb2

DEFAULT_PAGE = 50


class DeliveryServicer:
    def __init__(self, ledger: DeliveryLedger, outbox: Outbox, cursors: CursorCodec) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._cursors = cursors

    async def GetDelivery(
        self, request: delivery_pb2.GetDeliveryRequest, call: Call[Never, Never]
    ) -> delivery_pb2.GetDeliveryResponse:
        delivery = await self._ledger.get(call.caller.workspace_id, request.delivery_id)
        return delivery_pb2.GetDeliveryResponse(delivery=delivery_message(delivery))

    async def ListDeliveries(
        self, request: delivery_pb2.ListDeliveriesRequest, call: Call[Never, Never]
    ) -> delivery_pb2.ListDeliveriesResponse:
        workspace_id = call.caller.workspace_id
        listing = _listing(workspace_id, request)
        after = _place(self._cursors.read_page(request.page_token, listing)) if request.page_token else FIRST_PAGE
        which = DeliveryFilter(
            states=states_of(request), conversation_id=request.conversation_id, run_id=request.run_id
        )
        found, place = await self._ledger.page(workspace_id, which, after, request.page_size or DEFAULT_PAGE)
        return delivery_pb2.ListDeliveriesResponse(
            deliveries=[delivery_message(one) for one in found],
            next_page_token=self._cursors.write_page(listing, f"{place[0]}:{place[1]}") if place else "",
        )

    async def RetryDelivery(
        self, request: delivery_pb2.RetryDeliveryRequest, call: Call[Never, Never]
    ) -> delivery_pb2.RetryDeliveryResponse:
        delivery = await self._outbox.retry(call.caller.workspace_id, request.delivery_id)
        return delivery_pb2.RetryDeliveryResponse(delivery=delivery_message(self._ledger.shown(delivery)))

    async def DiscardDelivery(
        self, request: delivery_pb2.DiscardDeliveryRequest, call: Call[Never, Never]
    ) -> delivery_pb2.DiscardDeliveryResponse:
        delivery = await self._outbox.discard(call.caller.workspace_id, request.delivery_id)
        return delivery_pb2.DiscardDeliveryResponse(delivery=delivery_message(delivery))


def _listing(workspace_id: str, request: delivery_pb2.ListDeliveriesRequest) -> str:
    states = ",".join(str(state) for state in sorted(set(request.states)))
    return "\0".join(("deliveries", workspace_id, states, request.conversation_id, request.run_id))


def _place(position: str) -> Place:
    create_time, _, delivery_id = position.partition(":")
    return int(create_time), delivery_id
