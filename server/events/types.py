"""What happened: the log of everything that was accepted."""

from dataclasses import dataclass
from enum import StrEnum


class EventOutcome(StrEnum):
    """What accepting an event led to."""

    RUN = "run"
    STEER = "steer"
    RECORDED = "recorded"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event that was checked and is about to be accepted.

    `dedupe_key` is unique per (workspace, source); `body_hash` covers the fields that make it the same event.
    `payload` is the serialized event, `summary` at most 1,000 characters of it for people. Times are microseconds.
    `item_id` is its transcript item; `provider_message_id` the platform's own id of the message.
    """

    workspace_id: str
    event_id: str
    source: str
    dedupe_key: str
    body_hash: bytes
    type: str
    event_time: int
    payload: bytes
    summary: str = ""
    actor_id: str = ""
    conversation_id: str = ""
    item_id: str = ""
    provider_message_id: str = ""
    raw_ref: str = ""
    outcome: EventOutcome = EventOutcome.RECORDED
    outcome_reason: str = ""
    run_id: str = ""
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """An accepted event. `sequence` counts the workspace's events from 1."""

    workspace_id: str
    event_id: str
    sequence: int
    source: str
    dedupe_key: str
    type: str
    event_time: int
    accept_time: int
    payload: bytes
    summary: str
    actor_id: str
    conversation_id: str
    item_id: str
    provider_message_id: str
    raw_ref: str
    outcome: EventOutcome
    outcome_reason: str
    run_id: str
    trace_id: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer to a submit. `duplicate` means that the ids are those of the first submit with this key."""

    event_id: str
    sequence: int
    run_id: str
    conversation_id: str
    item_id: str
    outcome: EventOutcome
    duplicate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events a page shows; an empty field filters nothing."""

    conversation_id: str = ""
    types: tuple[str, ...] = ()
