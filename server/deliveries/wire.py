"""Between deliveries and their messages."""

from portway.server.deliveries.types import Delivery, DeliveryState
from portway.v1 import delivery_pb2

_STATES = {
    DeliveryState.PENDING: delivery_pb2.DELIVERY_STATE_PENDING,
    DeliveryState.SENDING: delivery_pb2.DELIVERY_STATE_SENDING,
    DeliveryState.SENT: delivery_pb2.DELIVERY_STATE_SENT,
    DeliveryState.ACKNOWLEDGED: delivery_pb2.DELIVERY_STATE_ACKNOWLEDGED,
    DeliveryState.UNKNOWN: delivery_pb2.DELIVERY_STATE_UNKNOWN,
    DeliveryState.FAILED: delivery_pb2.DELIVERY_STATE_FAILED,
    DeliveryState.EXPIRED: delivery_pb2.DELIVERY_STATE_EXPIRED,
    DeliveryState.DEAD_LETTER: delivery_pb2.DELIVERY_STATE_DEAD_LETTER,
    DeliveryState.DISCARDED: delivery_pb2.DELIVERY_STATE_DISCARDED,
}
_FROM_STATES = {number: state for state, number in _STATES.items()}


def delivery_message(delivery: Delivery) -> delivery_pb2.Delivery:
    """A delivery as adapters and operators see it."""
    message = delivery_pb2.Delivery(
        delivery_id=delivery.delivery_id,
        run_id=delivery.run_id,
        conversation_id=delivery.conversation_id,
        target=delivery_pb2.DeliveryTarget.FromString(delivery.target),
        payload=delivery_pb2.DeliveryPayload.FromString(delivery.payload),
        state=_STATES[delivery.state],
        attempt_count=delivery.attempts,
        provider_message_id=delivery.provider_message_id,
        sequence=delivery.sequence,
    )
    if delivery.error_code:
        message.error.code = delivery.error_code
        message.error.message = delivery.error_message
        message.error.retryable = delivery.state is DeliveryState.PENDING
    if delivery.next_attempt_time:
        message.next_attempt_time.FromMicroseconds(delivery.next_attempt_time)
    if delivery.expire_time:
        message.expire_time.FromMicroseconds(delivery.expire_time)
    if delivery.end_time:
        message.end_time.FromMicroseconds(delivery.end_time)
    message.create_time.FromMicroseconds(delivery.create_time)
    return message


def states_of(request: delivery_pb2.ListDeliveriesRequest) -> tuple[DeliveryState, ...]:
    """The states that are asked for; ones that this version does not know match nothing anyway."""
    return tuple(_FROM_STATES[number] for number in request.states if number in _FROM_STATES)
