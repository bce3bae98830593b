"""What a span is, and who takes spans."""

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

Value = str | int | float | bool


class Kind(IntEnum):
    """The numbers are those of OTLP."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


@dataclass(frozen=True, slots=True)
class Link:
    """Another span that this one goes back to."""

    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class Span:
    """One that has ended. Ids are hexadecimal, times are nanoseconds since 1970. `error` is a code, never a text."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    start: int
    end: int
    kind: Kind = Kind.INTERNAL
    attributes: Mapping[str, Value] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    error: str = ""


class Recorder(Protocol):
    """Takes spans. Never waits and never raises."""

    def samples(self, trace_id: str) -> bool:
        """Whether spans of this trace are wanted."""

    def record(self, span: Span) -> None:
        """One that has ended."""


def new_span_id() -> str:
    return f"{random.getrandbits(64) or 1:016x}"


def span_id_of(*names: str) -> str:
    """The same span for the same names: those that a process before a kill began are found again without a row."""
    return hashlib.sha256("\0".join(names).encode()).hexdigest()[:16]
