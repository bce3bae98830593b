"""What a run says to people: one place for ledger, transcript and outbox, so that all three always agree."""

from collections.abc import Callable, Sequence
from typing import Protocol

from portway.rpc.ids import new_id
from portway.server.deliveries.compose import DEFAULT_TTL_SECONDS, delivery_id_of, host_message, payload_delivery
from portway.server.deliveries.types import Delivery, NewDelivery
from portway.server.events.wire import media_of, text_of
from portway.server.provenance.mark import Speaker
from portway.server.runs.assignment import Addressee
from portway.server.runs.journal import Journal
from portway.server.runs.masking import mask_message, mask_text, masks_of
from portway.server.storage_engine.transaction import Transaction
from portway.server.transcript.store import append_items
from portway.server.transcript.types import NewItem, Role
from portway.v1 import content_pb2, delivery_pb2, run_pb2, run_result_pb2, usage_pb2

MESSAGE, NOTICE, INTERACTION = "message", "notice", "interaction"

_MEDIA_FIELDS = {"image/": "image", "audio/": "audio", "video/": "video"}


class Outbox(Protocol):
    """Where deliveries wait for their adapter."""

    def add(self, tx: Transaction, delivery: NewDelivery) -> Delivery:
        """Inside the unit that says the message."""

    def wake(self, delivery: Delivery) -> None:
        """After that unit is on disk. Never blocks."""


class Voice:
    """Of one attempt. Everything is put into the journal's next unit."""

    def __init__(self, addressee: Addressee, journal: Journal, outbox: Outbox) -> None:
        self._addressee = addressee
        self._journal = journal
        self._outbox = outbox
        self._masks = masks_of(addressee.spec)
        journal.masks = self._masks
        self.model_of: Callable[[], str] = lambda: ""
        self._runner_id = addressee.spec.runner_id if addressee.spec else ""
        self._attached: dict[str, content_pb2.ArtifactRef] = {}
        self._completed: set[str] = set()
        self.has_spoken = False

    def attach(self, artifact: content_pb2.ArtifactRef) -> None:
        """The next message brings it along."""
        self._attached[artifact.artifact_id] = artifact

    def has_completed(self, key: str) -> bool:
        """Whether the message with this key was said already."""
        return bool(key) and key in self._completed

    def say(
        self,
        completed: run_result_pb2.MessageCompleted,
        first: int,
        last: int,
        usage: usage_pb2.Usage | None = None,
    ) -> None:
        """A whole message of the agent."""
        message = completed.message
        message.message_id = new_id("msg")
        message.role = content_pb2.MESSAGE_ROLE_ASSISTANT
        self._take_attachments(message)
        self._mark(message.parts)
        event = run_pb2.RunEvent(message_completed=completed)
        if usage is not None:
            event.usage.CopyFrom(usage)
        self._journal.append("message_completed", event, first, last)
        self._publish(message, MESSAGE, Role.ASSISTANT)
        if completed.message_key:
            self._completed.add(completed.message_key)
        self.has_spoken = True

    def mark_part(self, part: content_pb2.ContentPart) -> None:
        """A piece of a message that is being written."""
        self.speaker.mark([part])

    @property
    def speaker(self) -> Speaker:
        """Who says what is said now."""
        return Speaker(self._addressee.run_id, self._runner_id, self.model_of())

    def _mark(self, parts: Sequence[content_pb2.ContentPart]) -> None:
        """Masked where the operator wants it, then marked: a mask must not hide where a part comes from."""
        self.speaker.mark(parts, [self._masked(part) for part in parts])

    def _masked(self, part: content_pb2.ContentPart) -> bool:
        if not self._masks:
            return False
        part.ClearField("provenance")
        before = part.SerializeToString(deterministic=True)
        mask_message(self._masks, part)
        return before != part.SerializeToString(deterministic=True)

    def tell(self, code: str, text: str) -> None:
        """A notice of the host in place of an answer."""
        text = mask_text(self._masks, text)
        message = host_message(new_id("msg"), code, text)
        notice = run_pb2.RunNotice(code=code, text=text, item_id=message.message_id)
        self._journal.append("notice", run_pb2.RunEvent(notice=notice))
        self._publish(message, NOTICE, Role.SYSTEM)

    def mask(self, text: str) -> str:
        """The text without what must not leave."""
        return mask_text(self._masks, text)

    def ask(self, question: content_pb2.QuestionPart, role: Role) -> tuple[str, str]:
        """A question to people; answers its transcript item and its delivery ('' where nothing is delivered).

        A surface that cannot show such a question gets its fallback text as a message.
        """
        asked = question.interaction
        message = content_pb2.Message(message_id=new_id("msg"))
        message.parts.add(question=question)
        if question.approval_id:
            message.parts[0].provenance.kind, message.parts[0].provenance.id = content_pb2.SOURCE_KIND_HOST, "approval"
            message.parts[0].provenance.run_id = self._addressee.run_id
        else:
            self.speaker.mark(message.parts)
        payload = delivery_pb2.DeliveryPayload(interaction=asked)
        if asked.kind not in self._addressee.event.capabilities.interactions:
            said = delivery_pb2.DeliveryMessage(item_id=message.message_id, kind=MESSAGE)
            said.parts.add().text.text = asked.fallback_text
            payload = delivery_pb2.DeliveryPayload(message=said)
        return message.message_id, self._publish(message, INTERACTION, role, asked.fallback_text, payload)

    def act(self, delivery_id: str, action: run_result_pb2.PlatformAction) -> None:
        """Something that the platform is to do, as a delivery with an id of its own."""
        delivery = self._delivery(delivery_pb2.DeliveryPayload(action=action), delivery_id)
        self._journal.also(lambda tx: self._outbox.add(tx, delivery), self._outbox.wake)

    def _publish(
        self,
        message: content_pb2.Message,
        kind: str,
        role: Role,
        text: str = "",
        payload: delivery_pb2.DeliveryPayload | None = None,
    ) -> str:
        """Into the transcript and, where somebody is to be told, into the outbox; answers the delivery's id or ''."""
        addressee = self._addressee
        item = NewItem(
            item_id=message.message_id,
            role=role,
            kind=kind,
            text=text or text_of(message.parts),
            content=message.SerializeToString(),
            thread_id=addressee.facts.thread_id,
            event_id=addressee.run.event_id,
            run_id=addressee.run_id,
        )
        self._journal.also(lambda tx: append_items(tx, addressee.workspace_id, addressee.run.conversation_id, [item]))
        # Nobody waits for what happens by itself: that it failed stands in the transcript.
        facts = addressee.facts
        told = facts.delivers and facts.expects_reply if kind == NOTICE else addressee.replies
        if not (told or (kind == INTERACTION and facts.delivers)):
            return ""
        if payload is None:
            answered = facts.subject_id if facts.subject_type == "message" else ""
            said = delivery_pb2.DeliveryMessage(
                item_id=message.message_id, parts=message.parts, kind=kind, reply_to=answered
            )
            payload = delivery_pb2.DeliveryPayload(message=said)
        delivery = self._delivery(payload, delivery_id_of(message.message_id))
        self._journal.also(lambda tx: self._outbox.add(tx, delivery), self._outbox.wake)
        return delivery.delivery_id

    def _delivery(self, payload: delivery_pb2.DeliveryPayload, delivery_id: str) -> NewDelivery:
        addressee = self._addressee
        policy = addressee.spec.delivery_policy if addressee.spec else None
        return payload_delivery(
            addressee.facts,
            payload,
            delivery_id,
            event_id=addressee.run.event_id,
            run_id=addressee.run_id,
            ttl_seconds=policy.delivery_ttl_seconds if policy else DEFAULT_TTL_SECONDS,
        )

    def _take_attachments(self, message: content_pb2.Message) -> None:
        """Files made since the last message go with this one, unless it names them itself."""
        present = {artifact.artifact_id for artifact in media_of(message.parts)}
        for artifact_id, artifact in self._attached.items():
            if artifact_id in present:
                continue
            field = next((name for head, name in _MEDIA_FIELDS.items() if artifact.mime_type.startswith(head)), "file")
            getattr(message.parts.add(), field).artifact.CopyFrom(artifact)
        self._attached.clear()
