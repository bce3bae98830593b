"""What the host keeps of an event listener."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum, auto


class Beginning(StrEnum):
    """Where an enabled listener begins."""

    RESUME = auto()
    NOW = auto()
    OLDEST = auto()


@dataclass(frozen=True, slots=True)
class Listener:
    """A listener of a workspace. `sequence` is the last event that it has seen, or that was not for it;
    `missed_count` are those it never will see, of which it was not told of `untold_count` yet. Times in microseconds.
    """

    workspace_id: str
    listener_id: str
    enabled: bool
    sequence: int
    delivered_count: int
    missed_count: int
    untold_count: int
    trouble: str
    update_time: int

    @property
    def key(self) -> tuple[str, str]:
        return self.workspace_id, self.listener_id


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a listener's manifest asks for; empty filters let everything through."""

    event_types: Sequence[str]
    timeout: float
    sources: Sequence[str] = ()
    launcher_types: Sequence[str] = ()
    permissions: Sequence[str] = ()

    def takes(self, event_type: str, source: str, launcher_type: str) -> bool:
        """Whether an event is for it."""
        if self.sources and source not in self.sources:
            return False
        if self.launcher_types and launcher_type not in self.launcher_types:
            return False
        return any(_fits(event_type, pattern) for pattern in self.event_types)


def _fits(event_type: str, pattern: str) -> bool:
    if pattern.endswith("*"):
        return event_type.startswith(pattern[:-1])
    return event_type == pattern
