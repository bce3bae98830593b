"""A question to people, and what became of it."""

from dataclasses import dataclass
from enum import StrEnum


class InteractionState(StrEnum):
    """WITHDRAWN: the run was cancelled before anybody answered."""

    OPEN = "open"
    ANSWERED = "answered"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInteraction:
    """`request` is the serialized question with its expiry; `actor_id` the only one who may answer, '' for anybody.

    `item_id` and `delivery_id` say where people see it ('' where nothing is delivered).
    """

    interaction_id: str
    conversation_id: str
    event_id: str
    agent_id: str
    actor_id: str
    request: bytes
    item_id: str
    delivery_id: str
    expire_time: int


@dataclass(frozen=True, slots=True)
class Interaction:
    """A question of a run. `answer` is the serialized answer; `request_id` the caller's own id of it."""

    workspace_id: str
    run_id: str
    interaction_id: str
    conversation_id: str
    event_id: str
    agent_id: str
    actor_id: str
    request: bytes
    item_id: str
    delivery_id: str
    expire_time: int
    state: InteractionState
    answer: bytes
    request_id: str
    answer_event_id: str
    answer_run_id: str
    create_time: int
    end_time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InteractionFilter:
    """Which questions a page shows; an empty field filters nothing."""

    run_id: str = ""
    conversation_id: str = ""
    open_only: bool = False
