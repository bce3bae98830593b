"""An owner, and what it holds."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum


class OwnerKind(StrEnum):
    """Who can hold something."""

    RUN = "run_id"
    SESSION = "session_id"
    CONVERSATION = "conversation_id"
    WORKSPACE = "workspace"


@dataclass(frozen=True, slots=True)
class Owner:
    """`name` is '' for the workspace itself."""

    workspace_id: str
    kind: OwnerKind
    name: str = ""


@dataclass(frozen=True, slots=True)
class Thing:
    """`item_id` is unique in its kind and the order of pages. Times are microseconds, 0 for none."""

    kind: str
    item_id: str
    owner_id: str
    state: str
    create_time: int = 0
    lease_expire_time: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """One place to look in. `look` answers things after an id, in the order of their ids; `name` is part of tokens."""

    name: str
    look: Callable[[Owner, str, int], Awaitable[list[Thing]]]
