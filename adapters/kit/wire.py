"""Between the contract and what adapters see: events, deliveries and their outcomes."""

from collections.abc import Iterable

from google.protobuf.json_format import MessageToDict

from portway.adapters.kit.questions import answer_message, kinds_of
from portway.adapters.kit.types import (
    Accepted,
    Attachment,
    Inbound,
    OutAction,
    Outbound,
    Outcome,
    OutcomeKind,
    OutEdit,
    OutMessage,
    OutQuestion,
    OutReaction,
    Payload,
    SurfaceLimits,
    Target,
)
from portway.rpc.errors import PortwayError, Unavailable, WrongState
from portway.v1 import adapter_pb2, content_pb2, delivery_pb2, event_pb2, run_context_pb2

_MEDIA_KINDS = ("image", "audio", "video", "file")

_OUTCOMES = {
    OutcomeKind.ACKNOWLEDGED: adapter_pb2.DELIVERY_OUTCOME_ACKNOWLEDGED,
    OutcomeKind.RETRYABLE: adapter_pb2.DELIVERY_OUTCOME_RETRYABLE,
    OutcomeKind.FAILED: adapter_pb2.DELIVERY_OUTCOME_FAILED,
    OutcomeKind.UNKNOWN: adapter_pb2.DELIVERY_OUTCOME_UNKNOWN,
}


def capabilities_of(limits: SurfaceLimits) -> run_context_pb2.SurfaceCapabilities:
    return run_context_pb2.SurfaceCapabilities(
        streaming=limits.streaming,
        edit=limits.edit,
        reaction=limits.reaction,
        typing=limits.typing,
        max_message_size=limits.max_size,
        size_unit=limits.size_unit.value,
        markdown=limits.markdown,
        interactions=kinds_of(limits.interactions),
        platform_actions=limits.platform_actions,
    )


def submit_of(inbound: Inbound, source: str, limits: SurfaceLimits) -> event_pb2.SubmitEventRequest:
    event = event_pb2.Event(
        type=inbound.type,
        source=source,
        source_event_type=inbound.source_event_type,
        address=event_pb2.EventAddress(
            conversation_id=inbound.conversation_id,
            surface=inbound.surface,
            bot_id=inbound.bot_id,
            channel_id=inbound.channel_id,
            launcher_type=inbound.launcher_type,
            launcher_id=inbound.launcher_id,
            thread_id=inbound.thread_id,
            reply_target=inbound.reply_target,
        ),
        actor=run_context_pb2.Actor(type="user", id=inbound.actor_id, name=inbound.actor_name),
        capabilities=capabilities_of(limits),
        addressed=inbound.addressed,
    )
    user = content_pb2.Provenance(kind=content_pb2.SOURCE_KIND_USER, id=inbound.actor_id)
    if inbound.text:
        event.parts.add(text=content_pb2.TextPart(text=inbound.text), provenance=user)
    if inbound.answer is not None:
        event.interaction.CopyFrom(answer_message(inbound.answer, inbound.actor_id))
    for attachment in inbound.attachments:
        event.parts.append(_media_part(attachment, user))
    return event_pb2.SubmitEventRequest(event=event, idempotency_key=inbound.key)


def _media_part(attachment: Attachment, provenance: content_pb2.Provenance) -> content_pb2.ContentPart:
    media = content_pb2.MediaPart(
        artifact=content_pb2.ArtifactRef(
            artifact_id=attachment.artifact_id,
            name=attachment.name,
            mime_type=attachment.mime_type,
            size=attachment.size,
            sha256=attachment.sha256,
        )
    )
    part = content_pb2.ContentPart(provenance=provenance)
    kind = attachment.kind if attachment.kind in _MEDIA_KINDS else "file"
    getattr(part, kind).CopyFrom(media)
    return part


def accepted_of(response: event_pb2.SubmitEventResponse) -> Accepted:
    return Accepted(
        response.event_id, response.run_id, response.conversation_id, response.message_id, response.duplicate
    )


def refusal_of(ack: adapter_pb2.AdapterEventAck) -> PortwayError:
    """Why the host did not take an event: `Unavailable` where the same event may be taken later."""
    error = ack.error
    message = error.message or "the host refused the event without a reason; its log may know more"
    if not error.retryable:
        return WrongState(message, reason=error.code or None)
    after = ack.retry_after.ToMilliseconds() / 1000 if ack.HasField("retry_after") else None
    return Unavailable(message, reason=error.code or None, retry_after=after)


def outbound_of(delivery: delivery_pb2.Delivery) -> Outbound:
    return Outbound(
        delivery_id=delivery.delivery_id,
        run_id=delivery.run_id,
        conversation_id=delivery.conversation_id or delivery.target.conversation_id,
        target=target_of(delivery.target),
        payload=_payload_of(delivery.payload),
    )


def target_of(target: delivery_pb2.DeliveryTarget) -> Target:
    return Target(
        target.surface,
        target.bot_id,
        target.channel_id,
        target.target,
        target.thread_id,
        target.conversation_id,
        target.launcher_type,
    )


def _payload_of(payload: delivery_pb2.DeliveryPayload) -> Payload:
    match payload.WhichOneof("kind"):
        case "edit":
            return OutEdit(payload.edit.provider_message_id, text_of(payload.edit.parts))
        case "reaction":
            reaction = payload.reaction
            return OutReaction(reaction.provider_message_id, reaction.reaction, reaction.remove)
        case "interaction":
            return OutQuestion(payload.interaction.interaction_id, payload.interaction.fallback_text)
        case "action":
            action = payload.action
            return OutAction(action.action, action.target, MessageToDict(action.payload))
        case _:
            message = payload.message
            return OutMessage(
                message.item_id,
                message.kind or "message",
                text_of(message.parts),
                attachments_of(message.parts),
                message.reply_to,
            )


def text_of(parts: Iterable[content_pb2.ContentPart]) -> str:
    """What the parts say in words; a card says its fallback text."""
    words: list[str] = []
    for part in parts:
        kind = part.WhichOneof("kind")
        if kind == "text":
            words.append(part.text.text)
        elif kind == "card":
            words.append(part.card.fallback_text or part.card.title)
        elif kind is not None and kind in _MEDIA_KINDS and getattr(part, kind).caption:
            words.append(getattr(part, kind).caption)
    return "\n\n".join(words)


def attachments_of(parts: Iterable[content_pb2.ContentPart]) -> tuple[Attachment, ...]:
    found = []
    for part in parts:
        kind = part.WhichOneof("kind")
        if kind is not None and kind in _MEDIA_KINDS:
            found.append(attachment_of(getattr(part, kind).artifact, kind))
    return tuple(found)


def attachment_of(ref: content_pb2.ArtifactRef, kind: str = "") -> Attachment:
    if not kind:
        family = ref.mime_type.partition("/")[0]
        kind = family if family in _MEDIA_KINDS else "file"
    return Attachment(ref.artifact_id, kind, ref.name, ref.mime_type, ref.size, ref.sha256)


def result_of(outcome: Outcome) -> adapter_pb2.DeliveryResult:
    result = adapter_pb2.DeliveryResult(
        delivery_id=outcome.delivery_id,
        outcome=_OUTCOMES[outcome.kind],
        provider_message_id=outcome.provider_message_id,
    )
    if outcome.code:
        result.error.code = outcome.code
        result.error.message = outcome.message
        result.error.retryable = outcome.kind is OutcomeKind.RETRYABLE
    if outcome.retry_after is not None:
        result.retry_after.FromMilliseconds(round(outcome.retry_after * 1000))
    return result
