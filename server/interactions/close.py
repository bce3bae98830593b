"""A question that is over: people see what became of it, in the transcript and, where the platform can, in the chat."""

import hashlib
from dataclasses import dataclass
from typing import Protocol

from portway.rpc.errors import NotFound
from portway.server.deliveries.store import enqueue_delivery, read_delivery
from portway.server.deliveries.types import Delivery, DeliveryState, NewDelivery
from portway.server.events.store import read_event
from portway.server.storage_engine.transaction import Transaction
from portway.server.transcript.store import read_item, replace_item
from portway.v1 import content_pb2, delivery_pb2, event_pb2, interaction_pb2

_WORDS = {
    interaction_pb2.INTERACTION_STATE_ANSWERED: "answered",
    interaction_pb2.INTERACTION_STATE_EXPIRED: "expired",
    interaction_pb2.INTERACTION_STATE_WITHDRAWN: "withdrawn",
}


class Shown(Protocol):
    """What is shown in a chat: a question of a run, or an approval."""

    @property
    def workspace_id(self) -> str: ...
    @property
    def event_id(self) -> str: ...
    @property
    def item_id(self) -> str: ...
    @property
    def delivery_id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Close:
    """What became of a question, as people see it."""

    state: interaction_pb2.InteractionState.ValueType
    answer: interaction_pb2.InteractionAnswer | None = None


def close_question(tx: Transaction, shown: Shown, close: Close) -> Delivery | None:
    """In the unit that closes it. Answers the delivery that edits it in the chat, for the outbox to be woken with."""
    if not shown.item_id:
        return None
    try:
        item = read_item(tx, shown.workspace_id, shown.item_id)
    except NotFound:
        return None
    message = content_pb2.Message.FromString(item.content)
    if not message.parts or not message.parts[0].HasField("question"):
        # It was erased.
        return None
    question = message.parts[0].question
    question.state = close.state
    if close.answer is not None:
        question.answer.CopyFrom(close.answer)
    replace_item(tx, shown.workspace_id, shown.item_id, item.text, message.SerializeToString())
    return _edit(tx, shown, question)


def _edit(tx: Transaction, shown: Shown, question: content_pb2.QuestionPart) -> Delivery | None:
    """Only where the platform has it, tells by which id, and can edit."""
    if not shown.delivery_id:
        return None
    try:
        sent = read_delivery(tx, shown.workspace_id, shown.delivery_id)
        event = read_event(tx, shown.workspace_id, shown.event_id)
    except NotFound:
        return None
    if not sent.provider_message_id or sent.state not in (DeliveryState.ACKNOWLEDGED, DeliveryState.SENT):
        return None
    if not event_pb2.Event.FromString(event.payload).capabilities.edit:
        return None
    edit = delivery_pb2.DeliveryEdit(provider_message_id=sent.provider_message_id)
    edit.parts.add(question=question)
    edit.parts.add().text.text = f"{_title(question.interaction)} — {_WORDS[question.state]}"
    digest = hashlib.sha256(f"{shown.delivery_id}/{question.state}".encode()).hexdigest()[:32]
    return enqueue_delivery(
        tx,
        NewDelivery(
            workspace_id=sent.workspace_id,
            delivery_id=f"dlv_{digest}",
            conversation_id=sent.conversation_id,
            surface=sent.surface,
            bot_id=sent.bot_id,
            target=sent.target,
            payload=delivery_pb2.DeliveryPayload(edit=edit).SerializeToString(),
            event_id=sent.event_id,
            run_id=sent.run_id,
            expire_time=sent.expire_time,
        ),
    )


def _title(question: interaction_pb2.Interaction) -> str:
    return question.title or question.fallback_text[:80]
