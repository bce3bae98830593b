"""A message on its way to a chat, as the outbox keeps it."""

from portway.server.deliveries.types import Channel, NewDelivery
from portway.server.deliveries.typing_signs import Place
from portway.server.events.facts import EventFacts
from portway.server.storage_engine.clock import SECOND, now
from portway.v1 import content_pb2, delivery_pb2

DEFAULT_TTL_SECONDS = 86_400.0


def message_delivery(
    facts: EventFacts,
    message: content_pb2.Message,
    *,
    kind: str,
    event_id: str,
    run_id: str = "",
    ttl_seconds: float = DEFAULT_TTL_SECONDS,
) -> NewDelivery:
    """The answer to an event, to the chat that it came from; its id follows from the message's."""
    answered = facts.subject_id if facts.subject_type == "message" else ""
    payload = delivery_pb2.DeliveryPayload(
        message=delivery_pb2.DeliveryMessage(
            item_id=message.message_id, parts=message.parts, kind=kind, reply_to=answered
        )
    )
    delivery_id = delivery_id_of(message.message_id)
    return payload_delivery(facts, payload, delivery_id, event_id=event_id, run_id=run_id, ttl_seconds=ttl_seconds)


def delivery_id_of(message_id: str) -> str:
    """The delivery of a message, by the id of its transcript item."""
    return "dlv_" + message_id.removeprefix("msg_")


def payload_delivery(
    facts: EventFacts,
    payload: delivery_pb2.DeliveryPayload,
    delivery_id: str,
    *,
    event_id: str,
    run_id: str = "",
    ttl_seconds: float = DEFAULT_TTL_SECONDS,
) -> NewDelivery:
    """Anything for the chat that an event came from."""
    return NewDelivery(
        workspace_id=facts.workspace_id,
        delivery_id=delivery_id,
        conversation_id=facts.conversation_id,
        surface=facts.surface,
        bot_id=facts.bot_id,
        target=target_of(facts).SerializeToString(deterministic=True),
        payload=payload.SerializeToString(),
        event_id=event_id,
        run_id=run_id,
        expire_time=now() + round(ttl_seconds * SECOND),
    )


def target_of(facts: EventFacts) -> delivery_pb2.DeliveryTarget:
    """The chat that an event came from."""
    return delivery_pb2.DeliveryTarget(
        surface=facts.surface,
        bot_id=facts.bot_id,
        channel_id=facts.channel_id,
        target=facts.reply_target or facts.launcher_id,
        thread_id=facts.thread_id,
        conversation_id=facts.conversation_id,
        launcher_type=facts.launcher_type,
    )


def place_of(facts: EventFacts) -> Place:
    """The same chat, for a typing sign."""
    channel = Channel(facts.workspace_id, facts.surface, facts.bot_id)
    return Place(channel, target_of(facts).SerializeToString(deterministic=True))


def host_message(message_id: str, code: str, text: str) -> content_pb2.Message:
    """Something that the host says itself."""
    message = content_pb2.Message(message_id=message_id, role=content_pb2.MESSAGE_ROLE_SYSTEM)
    part = message.parts.add()
    part.text.text = text
    part.provenance.kind = content_pb2.SOURCE_KIND_HOST
    part.provenance.id = code
    return message
