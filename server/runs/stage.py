"""What a run's own calls may do to it: say something in its ledger, stop its clock, end it with a question."""

from collections.abc import Callable
from dataclasses import dataclass

from portway.server.runs.assignment import Addressee
from portway.server.runs.journal import Journal
from portway.server.runs.voice import Voice
from portway.v1 import run_agent_pb2, run_context_pb2


@dataclass(frozen=True, slots=True)
class Stage:
    """Of one live attempt.

    `pause` stops the run's clock and answers whether it was running; `resume` answers the deadline that the run has
    then (microseconds), 0 while somebody else still waits; `may_pause` are the seconds that it may yet stand still.
    `flush` gives everything said so far to the ledger. `is_left` says that this host stops and leaves the run to the
    next one.
    """

    journal: Journal
    voice: Voice
    addressee: Addressee
    flush: Callable[[], None]
    pause: Callable[[], bool]
    resume: Callable[[], int]
    may_pause: Callable[[], float]
    end_soon: Callable[[], None]
    tell: Callable[[run_agent_pb2.RunInputFrame], None]
    is_left: Callable[[], bool]

    @property
    def surface(self) -> run_context_pb2.SurfaceCapabilities:
        """What the place of the reply can do."""
        return self.addressee.event.capabilities
