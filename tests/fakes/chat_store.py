"""What a scripted host keeps: it survives when the host is stopped and started again, as a database would."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.timestamp_pb2 import Timestamp

from portway.rpc.ids import new_id
from portway.v1 import (
    adapter_pb2,
    content_pb2,
    conversation_pb2,
    delivery_pb2,
    event_pb2,
    run_pb2,
    transcript_pb2,
)

OPEN = (run_pb2.RUN_STATE_QUEUED, run_pb2.RUN_STATE_RUNNING)


def now() -> Timestamp:
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp


@dataclass(slots=True)
class StoredRun:
    """A run with its ledger. `news` wakes its watchers; `provisional` is what they get in between."""

    run: run_pb2.Run
    text: str
    surface: str
    ledger: list[run_pb2.RunEvent] = field(default_factory=list)
    watchers: set["asyncio.Queue[run_pb2.RunEvent]"] = field(default_factory=set)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def commit(self, **kind: object) -> run_pb2.RunEvent:
        """The next event of the ledger, and to the watchers."""
        event = self.provisional(sequence=len(self.ledger) + 1, **kind)
        self.ledger.append(event)
        return event

    def provisional(self, *, sequence: int = 0, **kind: object) -> run_pb2.RunEvent:
        event = run_pb2.RunEvent(
            run_id=self.run.run_id,
            sequence=sequence,
            attempt=self.run.attempt,
            time=now(),
            **kind,  # type: ignore[arg-type]
        )
        for watcher in self.watchers:
            watcher.put_nowait(event)
        return event

    @property
    def open(self) -> bool:
        return self.run.state in OPEN


@dataclass(slots=True)
class ChatStore:
    """Everything on the disk of the scripted host."""

    events: dict[tuple[str, str], tuple[bytes, event_pb2.SubmitEventResponse]] = field(default_factory=dict)
    conversations: dict[str, conversation_pb2.Conversation] = field(default_factory=dict)
    items: dict[str, list[transcript_pb2.TranscriptItem]] = field(default_factory=dict)
    runs: dict[str, StoredRun] = field(default_factory=dict)
    deliveries: dict[str, delivery_pb2.Delivery] = field(default_factory=dict)
    outcomes: dict[str, list[adapter_pb2.DeliveryResult]] = field(default_factory=dict)
    artifacts: dict[str, tuple[content_pb2.ArtifactRef, bytes]] = field(default_factory=dict)
    cursors: dict[str, str] = field(default_factory=dict)
    generation: int = 0

    def add_item(
        self,
        conversation_id: str,
        role: content_pb2.MessageRole.ValueType,
        parts: Sequence[content_pb2.ContentPart],
        *,
        kind: str = "message",
        run_id: str = "",
    ) -> transcript_pb2.TranscriptItem:
        items = self.items.setdefault(conversation_id, [])
        item = transcript_pb2.TranscriptItem(
            item_id=new_id("msg"),
            conversation_id=conversation_id,
            role=role,
            kind=kind,
            content="\n".join(part.text.text for part in parts if part.HasField("text")),
            parts=parts,
            cursor=f"cursor-{conversation_id}-{len(items) + 1}",
            create_time=now(),
            run_id=run_id,
        )
        items.append(item)
        return item

    def add_delivery(self, run: StoredRun, item: transcript_pb2.TranscriptItem) -> delivery_pb2.Delivery:
        delivery = delivery_pb2.Delivery(
            delivery_id=new_id("dlv"),
            run_id=run.run.run_id,
            conversation_id=item.conversation_id,
            target=delivery_pb2.DeliveryTarget(surface=run.surface, conversation_id=item.conversation_id),
            payload=delivery_pb2.DeliveryPayload(
                message=delivery_pb2.DeliveryMessage(item_id=item.item_id, parts=item.parts, kind=item.kind)
            ),
            state=delivery_pb2.DELIVERY_STATE_PENDING,
            sequence=len(self.deliveries) + 1,
        )
        self.deliveries[delivery.delivery_id] = delivery
        return delivery

    def settle(self, result: adapter_pb2.DeliveryResult) -> None:
        self.outcomes.setdefault(result.delivery_id, []).append(result)
        delivery = self.deliveries[result.delivery_id]
        delivery.state = {
            adapter_pb2.DELIVERY_OUTCOME_ACKNOWLEDGED: delivery_pb2.DELIVERY_STATE_ACKNOWLEDGED,
            adapter_pb2.DELIVERY_OUTCOME_RETRYABLE: delivery_pb2.DELIVERY_STATE_PENDING,
            adapter_pb2.DELIVERY_OUTCOME_FAILED: delivery_pb2.DELIVERY_STATE_FAILED,
            adapter_pb2.DELIVERY_OUTCOME_UNKNOWN: delivery_pb2.DELIVERY_STATE_UNKNOWN,
        }[result.outcome]
        delivery.provider_message_id = result.provider_message_id

    def add_artifact(self, start: content_pb2.ArtifactRef, content: bytes) -> content_pb2.ArtifactRef:
        ref = content_pb2.ArtifactRef(
            artifact_id=new_id("art"),
            name=start.name,
            mime_type=start.mime_type,
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        self.artifacts[ref.artifact_id] = (ref, content)
        return ref

    def final_messages(self, conversation_id: str) -> list[str]:
        """What the agent said, as the transcript has it."""
        return [
            item.content
            for item in self.items.get(conversation_id, [])
            if item.role == content_pb2.MESSAGE_ROLE_ASSISTANT
        ]
