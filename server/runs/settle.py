"""Ending a run: its last words, its state and what follows from it, in one unit."""

from collections.abc import Callable, Sequence
from typing import Any

from portway.rpc.ids import new_id
from portway.server.agents.types import QueuePolicy
from portway.server.effects.store import give_up_effects
from portway.server.events.facts import EDIT
from portway.server.events.store import read_event, set_outcome
from portway.server.events.types import EventOutcome
from portway.server.runs.assignment import Addressee
from portway.server.runs.attempts import add_run, requeue_run, settle_run
from portway.server.runs.ending import CANCELLED, EFFECT_UNKNOWN, RESTARTED, Completed, Failed
from portway.server.runs.journal import Journal
from portway.server.runs.ledger import drop_steers
from portway.server.runs.notices import Situation, notice_text
from portway.server.runs.pending import QueuedRun, Work
from portway.server.runs.types import Fence, NewRun, RunState, Settlement, Steer
from portway.server.runs.usage import UsageSum
from portway.server.runs.voice import Voice
from portway.server.storage_engine.transaction import Transaction
from portway.v1 import run_pb2, run_result_pb2

_FINISH_PREFIX = "FINISH_REASON_"


class Settler:
    """Puts the end of a run into its journal. Whoever calls flushes it.

    `withdraw` takes back in the same unit what people have not decided yet, and where the run failed also what they
    have not answered; `withdrawn` gets what it answers. `gives_up_effects`: it may have called
    something whose end nobody knows.
    """

    def __init__(self, addressee: Addressee, journal: Journal, voice: Voice, work: Work) -> None:
        self._addressee = addressee
        self._journal = journal
        self._voice = voice
        self._work = work
        self.withdraw: Callable[[Transaction, bool], Any] | None = None
        self.withdrawn: Callable[[Any], None] | None = None
        self.gives_up_effects = False

    def complete(self, ending: Completed, usage: UsageSum) -> None:
        """The run ended well; its messages were said before."""
        reason = run_result_pb2.FinishReason.Value(_FINISH_PREFIX + ending.finish_reason.upper())
        completed = run_result_pb2.RunCompleted(finish_reason=reason)
        sequence = ending.runner_sequence
        self._journal.append("run_completed", run_pb2.RunEvent(run_completed=completed), sequence, sequence)
        total = usage.total()
        self._end(Settlement(state=RunState.COMPLETED, finish_reason=ending.finish_reason, usage=total))

    def fail(self, ending: Failed, usage: UsageSum, *, answered: bool = False) -> None:
        """The run ended badly, or was cancelled. `answered`: people have its answer already, and need no notice."""
        failure = ending.failure
        situation = _situation(failure.code)
        if not answered:
            self._voice.tell(failure.code, notice_text(self._addressee.spec, situation))
        error = run_result_pb2.RunError(code=failure.code, message=failure.message, retryable=failure.retryable)
        if ending.details:
            error.details.ParseFromString(ending.details)
        event = run_pb2.RunEvent(run_failed=run_result_pb2.RunFailed(error=error))
        self._journal.append("run_failed", event, ending.runner_sequence, ending.runner_sequence)
        state = RunState.CANCELLED if failure.code == CANCELLED else RunState.FAILED
        self._end(Settlement(state=state, failure=failure, usage=usage.total()))

    def try_again(self, reason: str, available_time: int) -> None:
        """The attempt is over and another one follows; the run waits for it in its place."""
        fence = self._journal.fence
        run = self._addressee.run
        last_sequence = self._journal.last_sequence

        def unit(tx: Transaction) -> QueuedRun:
            queued = requeue_run(tx, fence, reason, available_time)
            return QueuedRun(
                fence=queued,
                event_id=run.event_id,
                event_sequence=run.event_sequence,
                conversation_id=run.conversation_id,
                agent_id=run.agent_id,
                last_sequence=last_sequence,
                available_time=available_time,
                item_sequence=run.item_sequence,
                payload=run.payload,
                parent_run_id=run.parent_run_id,
                trace_id=run.trace_id,
                lane_id=run.lane_id,
                queued=run.queued,
            )

        self._journal.also(unit, self._work.again)

    def _end(self, settlement: Settlement) -> None:
        fence, addressee = self._journal.fence, self._addressee

        def unit(tx: Transaction) -> list[QueuedRun]:
            settle_run(tx, fence, settlement)
            dropped = drop_steers(tx, fence.workspace_id, fence.run_id)
            return [run for steer in dropped if (run := _become_run(tx, addressee, steer)) is not None]

        self._journal.also(unit, self._add_all)
        if self.gives_up_effects:
            self._journal.also(lambda tx: give_up_effects(tx, fence.workspace_id, fence.run_id))
        withdraw, failed = self.withdraw, settlement.state is not RunState.COMPLETED
        if withdraw is not None:
            self._journal.also(lambda tx: withdraw(tx, failed), self.withdrawn)

    def _add_all(self, runs: Sequence[QueuedRun]) -> None:
        for run in runs:
            self._work.add(run)


def _become_run(tx: Transaction, addressee: Addressee, steer: Steer) -> QueuedRun | None:
    """A message that the run never took becomes a run of its own. What came without an event has nobody to answer."""
    if not steer.event_id:
        return None
    event = read_event(tx, steer.workspace_id, steer.event_id)
    if event.type == EDIT:
        why = "its run ended before it took the edit"
        set_outcome(tx, steer.workspace_id, event.event_id, EventOutcome.RECORDED, why, event.run_id)
        return None
    run_id = new_id("run")
    add_run(
        tx,
        NewRun(
            workspace_id=steer.workspace_id,
            run_id=run_id,
            event_id=event.event_id,
            event_sequence=event.sequence,
            conversation_id=event.conversation_id,
            agent_id=addressee.run.agent_id,
            agent_revision=0,
            binding_id="",
            runner_id=addressee.spec.runner_id if addressee.spec else "",
            queue_policy=QueuePolicy.STEER,
            parent_run_id="",
            trace_id=event.trace_id,
        ),
    )
    why = "the run that it came for did not take it"
    set_outcome(tx, steer.workspace_id, event.event_id, EventOutcome.RUN, why, run_id)
    return QueuedRun(
        fence=Fence(steer.workspace_id, run_id, 0, 0),
        event_id=event.event_id,
        event_sequence=event.sequence,
        conversation_id=event.conversation_id,
        agent_id=addressee.run.agent_id,
        trace_id=event.trace_id,
    )


def _situation(code: str) -> Situation:
    if code == CANCELLED:
        return Situation.CANCELLED
    if code == EFFECT_UNKNOWN:
        return Situation.EFFECT_LOST
    return Situation.INTERRUPTED if code == RESTARTED else Situation.FAILED
