"""Who calls and what it may touch: one run's rights, asked in the order of the protocol, each refusal written down."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from portway.rpc.errors import (
    DeadlineExceeded,
    LimitExceeded,
    NotFound,
    NotPermitted,
    PortwayError,
    Reason,
    Stale,
    WrongState,
)
from portway.server.audit.types import NewAuditRecord
from portway.server.bridge.sessions import BridgeSessions
from portway.server.effects.types import Effect
from portway.server.events.facts import EventFacts
from portway.server.events.guards import Audit
from portway.server.metrics.counts import RunCounts
from portway.server.runner_calls.holdings import Holdings
from portway.server.runs.pending import Arrival
from portway.server.runs.stage import Stage
from portway.server.runs.types import Fence
from portway.server.runs.usage import UsageSum
from portway.server.snapshot.freeze import Snapshot
from portway.server.spending.meter import Meter
from portway.v1 import run_context_pb2, run_pull_pb2

# A model that calls tools for ever is stopped; a runner without models of the host has calls alone.
MAX_TOOL_ROUNDS = 128
MAX_TOOL_CALLS = 1_024


@dataclass(slots=True, eq=False)
class RunScope:
    """One live attempt, as the handlers of its calls see it. `deadline` is of the loop's own clock, in seconds.

    `arrivals` are messages that came during the run and that nobody pulled yet. `earlier_effects` are those of earlier
    attempts that this one did not come to yet; `effect_lost` says that nobody knows what became of one,
    `open_effects` are planned by this attempt and have no end yet. `ended` is
    said by who ends the run; `over` is set when this attempt has ended, however it did. `asked` is the serialized
    question that the run asked people, its last word, and `receipt` the answer to whoever asks the same again;
    `approvals` are those that this attempt waited for or took up, `allowed` those of calls that may be made (by call
    and digest), `told_waiting` says that people know that it waits, and `asked_approvals` are what it asked for
    itself, by request.
    """

    fence: Fence
    event_id: str
    conversation_id: str
    facts: EventFacts
    snapshot: Snapshot
    context: run_context_pb2.RunContext
    deadline: float
    audit: Audit
    usage: UsageSum
    meter: Meter
    counts: RunCounts = field(default_factory=RunCounts)
    arrivals: list[Arrival] = field(default_factory=list)
    tool_calls: dict[str, tuple[bytes, "asyncio.Future[run_pull_pb2.ToolResult]"]] = field(default_factory=dict)
    earlier_effects: list[Effect] = field(default_factory=list)
    effect_lost: bool = False
    open_effects: set[str] = field(default_factory=set)
    ended: PortwayError | None = None
    tool_rounds: int = 0
    tool_calls_made: int = 0
    rounds_spent: Callable[[str], None] = lambda _: None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    injected: Callable[[Sequence[Arrival]], None] = lambda _: None
    stage: Stage | None = None
    asked: bytes = b""
    receipt: run_pull_pb2.RequestInteractionResponse | None = None
    approvals: set[str] = field(default_factory=set)
    allowed: dict[tuple[str, str], str] = field(default_factory=dict)
    told_waiting: bool = False
    asked_approvals: dict[str, tuple[bytes, "asyncio.Future[str]"]] = field(default_factory=dict)
    actions: dict[str, "asyncio.Future[tuple[bytes, run_pull_pb2.RequestActionResponse]]"] = field(default_factory=dict)
    held: Holdings = field(default_factory=Holdings)
    bridge: BridgeSessions = field(default_factory=BridgeSessions)
    _in_tool_round: bool = False
    _stood_still: float | None = None
    _bounds: set[asyncio.Timeout] = field(default_factory=set)

    @property
    def workspace_id(self) -> str:
        return self.fence.workspace_id

    @property
    def run_id(self) -> str:
        return self.fence.run_id

    def check_alive(self) -> None:
        """Raises WrongState (RUN_FINISHED), Stale (ATTEMPT_SUPERSEDED), DeadlineExceeded."""
        if self.ended is not None:
            raise self.ended
        if self._now() > self.deadline:
            raise DeadlineExceeded(f"the deadline of the run {self.run_id} is over")

    def time_left(self) -> float:
        """Seconds until the run's deadline, or until a budget's time is over."""
        left = max(0.0, self.deadline - self._now())
        paid = self.meter.seconds_left()
        return left if paid is None else min(left, paid)

    @property
    def on_stage(self) -> Stage:
        """Raises WrongState where the run is not live."""
        if self.stage is None:
            raise run_finished(self.run_id, "ended")
        return self.stage

    @property
    def stands_still(self) -> bool:
        """Its clock does, because somebody waits for a person."""
        return self._stood_still is not None

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """The block ends with the run's time, which may stand still meanwhile. Raises TimeoutError."""
        async with asyncio.timeout(None if self._stood_still is not None else self.time_left()) as bound:
            self._bounds.add(bound)
            try:
                yield
            finally:
                self._bounds.discard(bound)

    def stand_still(self) -> None:
        """The run's clock stops: a person decides."""
        self._stood_still = time.monotonic()
        self.meter.pause()
        self._move_bounds(None)

    def add_time(self, seconds: float) -> None:
        """Time that does not count: the run's clock stood still, and runs again."""
        self.deadline += seconds
        self._stood_still = None
        self.meter.resume()
        self._move_bounds(self.time_left())

    def _move_bounds(self, left: float | None) -> None:
        when = None if left is None else asyncio.get_running_loop().time() + left
        for bound in self._bounds:
            if not bound.expired():
                bound.reschedule(when)

    def _now(self) -> float:
        return time.monotonic() if self._stood_still is None else self._stood_still

    def allow(self, operation: str, action: str) -> None:
        """Raises NotPermitted for an operation that is not in the snapshot."""
        self.check_alive()
        if operation not in self.snapshot.permissions.allowed:
            self.refuse(action, operation, "not granted")
            raise NotPermitted(
                f"{action} needs the permission {operation.replace('_', '.', 1)}, which this run does not have; "
                f"`portway runs explain {self.run_id}` shows which layer took it away"
            )

    def missing(self, action: str, kind: str, name: str) -> NotFound:
        """For a resource that is not in the snapshot: the same as for one that does not exist."""
        self.refuse(action, f"{kind} {name}", "not in the snapshot")
        return NotFound.of(kind, name)

    def refuse(self, action: str, resource: str, reason: str) -> None:
        """Write a refusal down."""
        self._write_down(action, resource, reason, allowed=False)

    def note(self, action: str, resource: str, reason: str) -> None:
        """Write down what was decided for the run."""
        self._write_down(action, resource, reason, allowed=True)

    def _write_down(self, action: str, resource: str, reason: str, *, allowed: bool) -> None:
        self.audit.record(
            NewAuditRecord(
                workspace_id=self.workspace_id,
                action=action,
                resource=resource,
                allowed=allowed,
                reason=reason,
                role="runner",
                subject=self.run_id,
                run_id=self.run_id,
                runner_id=self.snapshot.runner.runner_id,
                scope=self.conversation_id,
                trace_id=self.context.runtime.trace_id,
            )
        )

    def claim_earlier(self, digest: bytes, call_id: str) -> Effect | None:
        """What an earlier attempt did with the same tool and arguments; its own call id claims it first."""
        same = [effect for effect in self.earlier_effects if effect.digest == digest]
        found = next((effect for effect in same if effect.call_id == call_id), same[0] if same else None)
        if found is not None:
            self.earlier_effects.remove(found)
        return found

    def model_asked(self) -> None:
        """The next tool call begins a new round."""
        self._in_tool_round = False

    def count_tool_call(self) -> None:
        """A round is the calls between two calls of a model. Raises LimitExceeded, and the run ends with it."""
        self.tool_rounds += not self._in_tool_round
        self._in_tool_round = True
        self.tool_calls_made += 1
        over = ""
        if self.tool_rounds > MAX_TOOL_ROUNDS:
            over = f"{MAX_TOOL_ROUNDS} rounds of tool calls"
        elif self.tool_calls_made > MAX_TOOL_CALLS:
            over = f"{MAX_TOOL_CALLS} tool calls"
        if over:
            self.rounds_spent(over)
            raise LimitExceeded(f"a run has at most {over}", reason=Reason.TOOL_ROUNDS_EXHAUSTED)


def run_finished(run_id: str, state: str) -> WrongState:
    return WrongState(f"The run {run_id} has ended ({state}); its token is dead.", reason=Reason.RUN_FINISHED)


def attempt_superseded(run_id: str, attempt: int) -> Stale:
    return Stale(
        f"Attempt {attempt} of run {run_id} was superseded; what it does is refused.",
        reason=Reason.ATTEMPT_SUPERSEDED,
    )
