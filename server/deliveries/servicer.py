"""DeliveryService on the wire."""

from contextlib import aclosing
from typing import Never

from portway.rpc.call import Call
from portway.rpc.cursor import CursorCodec
from portway.server.deliveries.ledger import DeliveryLedger, Place
from portway.server.deliveries.outbox import Outbox
from portway.server.deliveries.store import FIRST_PAGE
from portway.server.deliveries.types import DeliveryFilter
from portway.server.deliveries.watch import DeliveryBatch, DeliveryWatch
from portway.server.deliveries.wire import delivery_message, states_of
from portway.v1 import delivery_pb2, stream_pb2

DEFAULT_PAGE = 50


class DeliveryServicer:
    def __init__(self, ledger: DeliveryLedger, outbox: Outbox, cursors: CursorCodec, epoch: int) -> None:
        self._watch = DeliveryWatch(outbox.feed, ledger, epoch)
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

    async def WatchDeliveries(
        self,
        request: delivery_pb2.WatchDeliveriesRequest,
        call: Call[None, delivery_pb2.WatchDeliveriesResponse],
    ) -> None:
        workspace_id, after = call.caller.workspace_id, None
        if request.after_cursor:
            after = self._cursors.read(request.after_cursor, _stream(workspace_id), field="after_cursor")
        following = self._watch.follow(workspace_id, request.conversation_id, after, call.draining)
        async with aclosing(following) as batches:
            async for batch in batches:
                await call.write(self._answer(workspace_id, batch))

    def _answer(self, workspace_id: str, batch: DeliveryBatch) -> delivery_pb2.WatchDeliveriesResponse:
        response = delivery_pb2.WatchDeliveriesResponse(
            deliveries=[delivery_message(one) for one in batch.deliveries],
            cursor=self._cursors.write(_stream(workspace_id), batch.position),
            snapshot=batch.snapshot,
        )
        if batch.gap:
            reason = stream_pb2.GAP_REASON_EPOCH if batch.new_epoch else stream_pb2.GAP_REASON_OVERFLOW
            response.gap.reason, response.gap.resume_cursor = reason, response.cursor
        return response

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


def _stream(workspace_id: str) -> str:
    return f"deliveries/{workspace_id}"


def _listing(workspace_id: str, request: delivery_pb2.ListDeliveriesRequest) -> str:
    states = ",".join(str(state) for state in sorted(set(request.states)))
    return "\0".join(("deliveries", workspace_id, states, request.conversation_id, request.run_id))


def _place(position: str) -> Place:
    create_time, _, delivery_id = position.partition(":")
    return int(create_time), delivery_id
