"""Calls that change the world: written down before they are made."""

from dataclasses import dataclass
from enum import StrEnum


class Idempotency(StrEnum):
    """What a second call would do. RECONCILABLE: the tool can tell whether the first one happened."""

    READ_ONLY = "read_only"
    IDEMPOTENT = "idempotent"
    RECONCILABLE = "reconcilable"
    NOT_IDEMPOTENT = "not_idempotent"


class EffectState(StrEnum):
    """PLANNED was written and may or may not have been made; UNKNOWN was given up on: nobody knows."""

    PLANNED = "planned"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEffect:
    """`call_id` is unique in the run, over its attempts; `digest` covers tool and arguments."""

    effect_id: str
    call_id: str
    tool: str
    idempotency: Idempotency
    digest: bytes


@dataclass(frozen=True, slots=True)
class Effect:
    """`result` is the serialized answer, given again instead of making the call again."""

    workspace_id: str
    effect_id: str
    run_id: str
    attempt: int
    call_id: str
    tool: str
    idempotency: Idempotency
    digest: bytes
    state: EffectState
    result: bytes
    create_time: int
    end_time: int
