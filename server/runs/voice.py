"""What a run says to people: one place for ledger, transcript and outbox, so that all three always agree."""

from typing import Protocol

from portway.rpc.ids import new_id
from portway.server.deliveries.types import Delivery, NewDelivery
from portway.server.events.guards import mask_outbound
from portway.server.events.wire import media_of, text_of
from portway.server.runs.assignment import Addressee
from portway.server.runs.journal import Journal
from portway.server.storage_engine.clock import SECOND, now
from portway.server.storage_engine.transaction import Transaction
from portway.server.transcript.store import append_items
from portway.server.transcript.types import NewItem, Role
from portway.v1 import content_pb2, delivery_pb2, run_pb2, run_result_pb2, usage_pb2

DEFAULT_TTL_SECONDS = 86_400.0
MESSAGE, NOTICE = "message", "notice"

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
        self._mask(message)
        event = run_pb2.RunEvent(message_completed=completed)
        if usage is not None:
            event.usage.CopyFrom(usage)
        self._journal.append("message_completed", event, first, last)
        self._publish(message, MESSAGE, Role.ASSISTANT)
        if completed.message_key:
            self._completed.add(completed.message_key)
        self.has_spoken = True

    def tell(self, code: str, text: str) -> None:
        """A notice of the host in place of an answer."""
        message = content_pb2.Message(message_id=new_id("msg"), role=content_pb2.MESSAGE_ROLE_SYSTEM)
        part = message.parts.add()
        part.text.text = text
        part.provenance.kind = content_pb2.SOURCE_KIND_HOST
        part.provenance.id = code
        notice = run_pb2.RunNotice(code=code, text=text, item_id=message.message_id)
        self._journal.append("notice", run_pb2.RunEvent(notice=notice))
        self._publish(message, NOTICE, Role.SYSTEM)

    def _publish(self, message: content_pb2.Message, kind: str, role: Role) -> None:
        addressee = self._addressee
        item = NewItem(
            item_id=message.message_id,
            role=role,
            kind=kind,
            text=text_of(message.parts),
            content=message.SerializeToString(),
            thread_id=addressee.facts.thread_id,
            event_id=addressee.run.event_id,
            run_id=addressee.run_id,
        )
        self._journal.also(lambda tx: append_items(tx, addressee.workspace_id, addressee.run.conversation_id, [item]))
        if addressee.replies or (kind == NOTICE and addressee.facts.delivers):
            delivery = self._delivery(message, kind)
            self._journal.also(lambda tx: self._outbox.add(tx, delivery), self._outbox.wake)

    def _delivery(self, message: content_pb2.Message, kind: str) -> NewDelivery:
        addressee, facts = self._addressee, self._addressee.facts
        policy = addressee.spec.delivery_policy if addressee.spec else None
        answered = facts.subject_id if facts.subject_type == "message" else ""
        payload = delivery_pb2.DeliveryPayload(
            message=delivery_pb2.DeliveryMessage(
                item_id=message.message_id, parts=message.parts, kind=kind, reply_to=answered
            )
        )
        target = delivery_pb2.DeliveryTarget(
            surface=facts.surface,
            bot_id=facts.bot_id,
            channel_id=facts.channel_id,
            target=facts.reply_target or facts.launcher_id,
            thread_id=facts.thread_id,
            conversation_id=addressee.run.conversation_id,
            launcher_type=facts.launcher_type,
        )
        ttl = policy.delivery_ttl_seconds if policy else DEFAULT_TTL_SECONDS
        return NewDelivery(
            workspace_id=addressee.workspace_id,
            delivery_id="dlv_" + message.message_id.removeprefix("msg_"),
            conversation_id=addressee.run.conversation_id,
            surface=facts.surface,
            bot_id=facts.bot_id,
            target=target.SerializeToString(),
            payload=payload.SerializeToString(),
            event_id=addressee.run.event_id,
            run_id=addressee.run_id,
            expire_time=now() + round(ttl * SECOND),
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

    def _mask(self, message: content_pb2.Message) -> None:
        patterns = self._addressee.spec.guards.masked_outbound_patterns if self._addressee.spec else ()
        if patterns:
            for part in message.parts:
                if part.HasField("text"):
                    part.text.text = mask_outbound(patterns, part.text.text)
