"""What retention is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from portway.server.storage_engine.clock import Micros
from portway.server.storage_engine.transaction import Transaction

Position: TypeAlias = tuple[int, str]
"""Where a walk is: a number that grows with time, and an id among equals."""

START: Position = (0, "")


@dataclass(frozen=True, slots=True)
class Step:
    """A bounded unit of one kind in one workspace, after `position`: at most `limit` rows go.

    `dry`: only count.
    """

    workspace_id: str
    position: Position
    cutoff: Micros
    limit: int
    dry: bool


@dataclass(frozen=True, slots=True)
class Stepped:
    """What a unit did. `position`: where the next goes on; `kept`: the first thing that was passed over, if any.

    `done`: nothing older is left to look at.
    """

    removed: int
    position: Position
    kept: Position | None
    done: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """A kind, and how a unit of it is done."""

    kind: str
    step: Callable[[Transaction, Step], Stepped]


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a kind has come in a workspace, and what it removed: ever, and in the last pass that removed anything."""

    workspace_id: str
    kind: str
    position: int
    removed: int
    last_removed: int
    update_time: Micros
