"""One execution of one runner for one event: the run, its attempts, its ledger."""

from dataclasses import dataclass
from enum import StrEnum


class RunState(StrEnum):
    """QUEUED waits for its turn; WAITING executes with its clock paused (an approval); the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED)


class AttemptState(StrEnum):
    """At most one attempt of a run is LIVE; a SUPERSEDED one was fenced off before it ended."""

    LIVE = "live"
    ENDED = "ended"
    SUPERSEDED = "superseded"


class SteerState(StrEnum):
    """What became of a message that arrived during a run. WITHDRAWN: its sender recalled it before the run took it."""

    QUEUED = "queued"
    INJECTED = "injected"
    DROPPED = "dropped"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Fence:
    """The right to write for a run. It names the attempt and the host's epoch, and ends with either.

    A run that waits in the queue has epoch 0: its fence serves to start it or to settle it unstarted.
    """

    workspace_id: str
    run_id: str
    attempt: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run about to be queued, with its binding resolved: that never changes again."""

    workspace_id: str
    run_id: str
    event_id: str
    event_sequence: int
    conversation_id: str
    agent_id: str
    agent_revision: int
    binding_id: str
    runner_id: str
    queue_policy: str = "queue"
    parent_run_id: str = ""
    trace_id: str = ""
    available_time: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run consumed; nothing where it is unknown."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_micros: int | None = None
    currency: str = ""
    model_id: str = ""
    price_version: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run ended badly: a published code and a sentence for operators."""

    code: str = ""
    message: str = ""
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """A run. `last_sequence` is that of its newest ledger entry; times are microseconds, 0 for none."""

    workspace_id: str
    run_id: str
    event_id: str
    event_sequence: int
    conversation_id: str
    agent_id: str
    agent_revision: int
    binding_id: str
    runner_id: str
    queue_policy: str
    parent_run_id: str
    trace_id: str
    available_time: int
    state: RunState
    attempt: int
    epoch: int
    last_sequence: int
    create_time: int
    start_time: int
    end_time: int
    deadline: int
    cancel_time: int
    cancel_reason: str
    finish_reason: str
    failure: Failure
    usage: Usage

    @property
    def cancelling(self) -> bool:
        """Somebody wants it to stop, and it has not stopped."""
        return self.cancel_time > 0 and not self.state.final

    @property
    def fence(self) -> Fence:
        """The right to write for it as it stands now."""
        return Fence(self.workspace_id, self.run_id, self.attempt, self.epoch)


@dataclass(frozen=True, slots=True)
class OpenRun:
    """What a scheduler needs of a run that has not ended."""

    workspace_id: str
    run_id: str
    event_sequence: int
    conversation_id: str
    agent_id: str
    queue_policy: str
    state: RunState
    attempt: int
    epoch: int
    last_sequence: int
    available_time: int
    cancel_time: int

    @property
    def fence(self) -> Fence:
        return Fence(self.workspace_id, self.run_id, self.attempt, self.epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAttempt:
    """`token_hash` is the SHA-256 of the run token's secret; `deadline` in microseconds."""

    token_id: str
    token_hash: bytes
    plugin_id: str
    runtime_generation: str
    deadline: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a run."""

    workspace_id: str
    run_id: str
    attempt: int
    epoch: int
    state: AttemptState
    token_id: str
    token_hash: bytes
    plugin_id: str
    runtime_generation: str
    start_time: int
    end_time: int
    outcome: str

    @property
    def fence(self) -> Fence:
        return Fence(self.workspace_id, self.run_id, self.attempt, self.epoch)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One entry to append. `payload` is the serialized result, kept and replayed byte for byte.

    `runner_first` to `runner_last` is the range of the runner's own sequence that it covers (0: the host's own entry).
    """

    kind: str
    payload: bytes
    runner_first: int = 0
    runner_last: int = 0


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """One committed entry. Sequences of a run begin at 1 and have no gaps, over all its attempts."""

    sequence: int
    attempt: int
    kind: str
    payload: bytes
    runner_first: int
    runner_last: int
    create_time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How a run ends. `state` is a final one."""

    state: RunState
    finish_reason: str = ""
    failure: Failure = Failure()
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Steer:
    """A message for a run that is executing."""

    workspace_id: str
    run_id: str
    position: int
    steering_id: str
    event_id: str
    state: SteerState
    payload: bytes
    create_time: int
    end_time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs a page shows; an empty field filters nothing."""

    conversation_id: str = ""
    agent_id: str = ""
    states: tuple[RunState, ...] = ()
    event_id: str = ""
    parent_run_id: str = ""


@dataclass(frozen=True, slots=True)
class RunCursor:
    """Where a page of runs goes on: the place of its last item."""

    event_sequence: int
    run_id: str
