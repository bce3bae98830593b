"""Words that the supervisor and those who ask it share."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class WorkerState(StrEnum):
    """How a plugin's process is. The names are those of the contract."""

    IDLE = "IDLE"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    BACKING_OFF = "BACKING_OFF"
    DRAINING = "DRAINING"
    BROKEN = "BROKEN"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What people are told of a plugin's process. `reason` says why it is not running where that needs saying."""

    state: WorkerState
    reason: str = ""
    pid: int = 0
    generation: int = 0
    restart_count: int = 0
    run_count: int = 0
    start_time: datetime | None = None


@dataclass(frozen=True)
class WorkerLimits:
    """Times in seconds: to start and shake hands, to answer a ping, to drain, and between a polite and a hard end. A
    process is asked for a sign of life every `look`, and ended when it gives none for `hung`."""

    start: float = 20.0
    ping: float = 1.0
    drain: float = 30.0
    kill: float = 2.0
    # What a cancelled call may take to end; after that its process is replaced.
    settle: float = 5.0
    # Where they stay, whoever is the same user can call a plugin.
    keep_cookies: bool = False
    look: float = 10.0
    hung: float = 60.0
    longest_backoff: float = 30.0
    # A plugin that lives this long, or ends a run, has started well: its earlier crashes are forgotten.
    healthy_after: float = 10.0
