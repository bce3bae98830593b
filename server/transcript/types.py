"""The conversation as people see it, projected from the event log and the runs."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Who an item is from."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    TOOL = "tool"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """An item to append. `text` is what is searched; `content` the serialized message.

    `provider_message_id` is the platform's own id, by which an edit or a recall finds the item.
    `create_time` 0 means now.
    """

    item_id: str
    role: Role
    kind: str
    text: str
    content: bytes
    thread_id: str = ""
    event_id: str = ""
    run_id: str = ""
    actor_id: str = ""
    actor_name: str = ""
    provider_message_id: str = ""
    create_time: int = 0


@dataclass(frozen=True, slots=True)
class TranscriptItem:
    """`sequence` counts the conversation's items from 1; `redact_time` is set where the content was erased."""

    conversation_id: str
    sequence: int
    item_id: str
    role: Role
    kind: str
    text: str
    content: bytes
    thread_id: str
    event_id: str
    run_id: str
    actor_id: str
    actor_name: str
    provider_message_id: str
    create_time: int
    edit_time: int
    redact_time: int


class Order(StrEnum):
    """Which way a page goes from its cursor."""

    BACKWARD = "backward"
    FORWARD = "forward"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageQuery:
    """A page of one conversation. `cursor`: below it when going backward, above it when going forward."""

    conversation_id: str
    cursor: int
    limit: int
    order: Order = Order.BACKWARD
    thread_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQuery:
    """A search.

    Without `conversation_id` in the whole workspace; `roles` and `kinds` empty mean all; times in microseconds.
    """

    text: str
    limit: int
    conversation_id: str = ""
    thread_id: str = ""
    roles: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    after_time: int = 0
    before_time: int = 2**62
