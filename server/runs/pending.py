"""What accepting hands to executing."""

import time
from dataclasses import dataclass, field
from typing import Protocol

from portway.server.events.routing import Resolution
from portway.server.runs.types import Fence, Run


@dataclass(frozen=True, slots=True)
class QueuedRun:
    """A run that was committed as queued.

    `payload` is the serialized event; '' where it has to be read again. `item_sequence` is the place of the event's
    message in its conversation: 0 where it is not known or there is none. `resolution` is how its binding was found.
    `lane_id` names a lane of its own, for a run that waits for no other; after a start it waits like the others.
    `queued` is when it was handed over first, by the monotonic clock.
    """

    fence: Fence
    event_id: str
    event_sequence: int
    conversation_id: str
    agent_id: str
    last_sequence: int = 0
    available_time: int = 0
    item_sequence: int = 0
    payload: bytes = b""
    parent_run_id: str = ""
    trace_id: str = ""
    resolution: Resolution | None = None
    lane_id: str = ""
    queued: float = field(default_factory=time.monotonic, compare=False)

    @property
    def key(self) -> tuple[str, str]:
        return self.fence.workspace_id, self.fence.run_id

    @property
    def lane(self) -> tuple[str, str]:
        """What runs one after the other."""
        return self.fence.workspace_id, self.lane_id or self.conversation_id


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message for a run that is executing, at its place among them. `payload` is the serialized event."""

    steering_id: str
    event_id: str
    payload: bytes
    position: int


class Work(Protocol):
    """What executes runs, as far as those need to know who queue them."""

    def ensure_room(self, workspace_id: str) -> None:
        """Raises LimitExceeded when too many runs wait already."""

    def is_busy(self, workspace_id: str, conversation_id: str) -> bool:
        """Whether a run of the conversation waits or executes."""

    def steerable(self, workspace_id: str, conversation_id: str) -> Fence | None:
        """The executing run of the conversation, if its runner takes messages. Also called by the writer's thread."""

    def replace(self, run: Run, reason: str) -> None:
        """The run was fenced off on disk: end it wherever it is, without a word to people."""

    def add(self, run: QueuedRun) -> None:
        """The run is on disk and waits for its turn."""

    def again(self, run: QueuedRun) -> None:
        """Another attempt of a run that executes until now."""

    def steer(self, fence: Fence, arrival: Arrival) -> None:
        """The message is on disk and belongs to the executing run."""

    def unsteer(self, workspace_id: str, run_id: str, event_id: str) -> None:
        """The message of that event was withdrawn on disk before the run took it."""

    def interrupt(self, workspace_id: str, conversation_id: str, event_id: str) -> None:
        """A newer message takes the place of the executing run."""
