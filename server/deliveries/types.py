"""What is to be sent, in an outbox until the platform has it."""

from dataclasses import dataclass
from enum import StrEnum


class DeliveryState(StrEnum):
    """PENDING waits for its turn; SENT left the adapter; ACKNOWLEDGED arrived at the platform.

    SENDING (given to an adapter) is known to the running host alone: after a restart it is PENDING again, under the
    same id. UNKNOWN: nobody knows whether it was sent; it is resolved, never blindly repeated. FAILED was refused for
    good, EXPIRED was too old, DEAD_LETTER was tried too often, DISCARDED was given up by a person.
    """

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    ACKNOWLEDGED = "acknowledged"
    UNKNOWN = "unknown"
    FAILED = "failed"
    EXPIRED = "expired"
    DEAD_LETTER = "dead_letter"
    DISCARDED = "discarded"

    @property
    def open(self) -> bool:
        """It holds up the later ones of its conversation."""
        return self in (DeliveryState.PENDING, DeliveryState.SENDING)


@dataclass(frozen=True, slots=True)
class Channel:
    """One account on one surface. `bot_id` is '' where the surface has only one, or the event named none."""

    workspace_id: str
    surface: str
    bot_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """`delivery_id` is stable: the same reply, enqueued again, is the same delivery.

    `target` and `payload` are the serialized messages; `surface` and `bot_id` say which adapter sends it; deliveries of
    one `conversation_id` stay in order. Times are microseconds, `expire_time` 0 for never.
    """

    workspace_id: str
    delivery_id: str
    conversation_id: str
    surface: str
    bot_id: str
    target: bytes
    payload: bytes
    event_id: str = ""
    run_id: str = ""
    expire_time: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery. `sequence` counts the conversation's deliveries from 1; `attempts` those whose outcome was told."""

    workspace_id: str
    delivery_id: str
    conversation_id: str
    surface: str
    bot_id: str
    target: bytes
    payload: bytes
    event_id: str
    run_id: str
    expire_time: int
    sequence: int
    state: DeliveryState
    attempts: int
    next_attempt_time: int
    provider_message_id: str
    error_code: str
    error_message: str
    create_time: int
    end_time: int

    @property
    def channel(self) -> Channel:
        return Channel(self.workspace_id, self.surface, self.bot_id)


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a channel has to send at the database's time `time`: all of it where `complete`."""

    deliveries: tuple[Delivery, ...]
    complete: bool
    time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an attempt to send. For PENDING (try again), `next_attempt_time` says when."""

    state: DeliveryState
    provider_message_id: str = ""
    error_code: str = ""
    error_message: str = ""
    next_attempt_time: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries a page shows; an empty field filters nothing."""

    states: tuple[DeliveryState, ...] = ()
    conversation_id: str = ""
    run_id: str = ""
