"""Erasures."""

from dataclasses import dataclass
from enum import StrEnum


class ErasureKind(StrEnum):
    """Whose data."""

    USER = "user"
    CONVERSATION = "conversation"
    WORKSPACE = "workspace"


@dataclass(frozen=True, slots=True)
class Erasure:
    """One that was asked for, and how far it is. `actor_ids` are the user's accounts, a line each, until the end.

    `position` is the sequence of the last event that was looked at; `redacted` and `artifacts` count what changed.
    """

    workspace_id: str
    erasure_id: str
    kind: ErasureKind
    subject_id: str
    actor_ids: str
    asked_by: str
    asked_in: str
    position: int
    redacted: int
    artifacts: int
    create_time: int
    end_time: int
