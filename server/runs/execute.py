"""Executing one run that was taken from the queue: prepared, begun, conversed with, settled."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from portway.rpc.cursor import CursorCodec
from portway.rpc.errors import PortwayError
from portway.rpc.telemetry import tracing
from portway.rpc.tokens import mint_token
from portway.rpc.traces.span import spanning
from portway.server.approvals.decide import Decisions
from portway.server.approvals.policy import may_wait
from portway.server.bridge.door import BRIDGE_KIND
from portway.server.deliveries.compose import place_of
from portway.server.deliveries.typing_signs import Sign, TypingSigns
from portway.server.effects.store import Effects
from portway.server.events.guards import Audit
from portway.server.metrics.counts import RunCounts
from portway.server.runner_calls.operations import Operation, RunnerCalls
from portway.server.runner_calls.scope import RunScope, run_finished
from portway.server.runs import ending as ends
from portway.server.runs.assignment import Addressee, Assignment
from portway.server.runs.attempt import Attempt
from portway.server.runs.attempts import begin_attempt, freeze_snapshot
from portway.server.runs.clock import RunClock
from portway.server.runs.conclude import checked_end, delay_before_next
from portway.server.runs.ending import Completed, Ending, Failed, Superseded
from portway.server.runs.feed import Feeds, RunFeed
from portway.server.runs.journal import Journal
from portway.server.runs.live import TOKEN_KIND, LiveAttempts
from portway.server.runs.pending import Arrival, QueuedRun, Work
from portway.server.runs.prepare import Preparer
from portway.server.runs.results import Results, record_steering
from portway.server.runs.settle import Settler
from portway.server.runs.side_effects import SideEffects
from portway.server.runs.stage import Stage
from portway.server.runs.store import Ledgers
from portway.server.runs.types import Fence, NewAttempt, SteerState
from portway.server.runs.usage import UsageSum
from portway.server.runs.voice import Outbox, Voice
from portway.server.runtimes.link import RuntimeLink
from portway.server.spending.ledger import SpendingAccounts
from portway.server.spending.meter import Meter
from portway.server.spending.types import Payer
from portway.server.storage_engine.clock import SECOND, now
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.transaction import Transaction
from portway.server.traces.run_traces import RunTraces, attempt_before, attempt_span
from portway.v1 import run_pb2

EFFECTS_READ = 1_000
STEERS_READ = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What every execution uses."""

    database: Database
    cursors: CursorCodec
    feeds: Feeds
    live: LiveAttempts
    preparer: Preparer
    runtime: RuntimeLink
    outbox: Outbox
    signs: TypingSigns
    audit: Audit
    effects: Effects
    ledgers: Ledgers
    calls: RunnerCalls
    decisions: Decisions
    operations: Mapping[str, Operation]
    spending: SpendingAccounts
    grace: float
    counts: RunCounts = field(default_factory=RunCounts)
    traces: RunTraces = field(default_factory=RunTraces)


class Execution:
    """One attempt, from the queue to its end."""

    def __init__(self, means: Means, work: Work, run: QueuedRun) -> None:
        self._means = means
        self._work = work
        self._run = run
        self._stop: tuple[str, str] | None = None
        self._preparing: asyncio.Timeout | None = None
        self._attempt: Attempt | None = None
        self._left = False
        self.finished = asyncio.Event()
        self.began = time.monotonic()

    @property
    def run(self) -> QueuedRun:
        return self._run

    @property
    def attempt(self) -> Attempt | None:
        return self._attempt

    def request_stop(self, code: str, reason: str) -> None:
        """At any time; only the first one counts."""
        self._stop = self._stop or (code, reason)
        if self._attempt is not None:
            self._attempt.request_stop(code, reason)
        elif self._preparing is not None:
            self._preparing.reschedule(asyncio.get_running_loop().time())

    def leave(self) -> None:
        """The host stops: a run that has not begun stays queued, one that has is left for the next start."""
        self._left = True
        if self._attempt is not None:
            self._attempt.leave()
        elif self._preparing is not None:
            self._preparing.reschedule(asyncio.get_running_loop().time())

    async def execute(self) -> Ending | None:
        """Answers how it ended; nothing where it did not begin. Raises what kept the end from being written."""
        means = self._means
        addressee = await means.preparer.address(self._run)
        self._run = addressee.run
        means.traces.began(self._run, self.began)
        with tracing(means.traces.run_of(self._run)):
            try:
                async with asyncio.timeout(None) as self._preparing:
                    assignment = await means.preparer.prepare(addressee)
                    meter = await self._open_meter(assignment)
            except TimeoutError:
                if self._stop is None:
                    return None
                return await self._refuse(addressee, ends.failed(*self._stop))
            except PortwayError as error:
                runner_id = addressee.spec.runner_id if addressee.spec else self._run.agent_id
                return await self._refuse(addressee, ends.of_preparation_error(error, runner_id))
            finally:
                self._preparing = None
            try:
                return await self._converse(assignment, meter)
            finally:
                meter.leave()

    async def _open_meter(self, assignment: Assignment) -> Meter:
        """The run keeps its own budget; those of the month are as they are now."""
        frozen = assignment.snapshot.spec
        agent = assignment.addressee.spec or frozen
        return await self._means.spending.open(_payer(assignment), frozen.run_budget, agent)

    async def _refuse(self, addressee: Addressee, ending: Failed) -> Ending:
        """The run ends before it began."""
        fence = self._run.fence
        feed = self._means.feeds.own(fence.workspace_id, fence.run_id, self._run.last_sequence)
        try:
            journal = self._journal(feed, fence)
            Settler(addressee, journal, Voice(addressee, journal, self._means.outbox), self._work).fail(
                ending, UsageSum()
            )
            await _written(journal)
            feed.end()
        finally:
            self._means.feeds.release(feed)
        return ending

    async def _converse(self, assignment: Assignment, meter: Meter) -> Ending:
        means = self._means
        queued = self._run.fence
        fence = Fence(queued.workspace_id, queued.run_id, assignment.attempt, means.database.epoch)
        feed = means.feeds.own(fence.workspace_id, fence.run_id, self._run.last_sequence)
        try:
            journal = self._journal(feed, fence)
            voice = Voice(assignment.addressee, journal, means.outbox)
            attempt = await self._begin(assignment, meter, journal, feed, voice)
            meter.on_spent = lambda why: attempt.request_stop(ends.BUDGET_EXHAUSTED, why)
            meter.start(journal)
            run_id, number = fence.run_id, fence.attempt
            with spanning(
                "attempt", span_id=attempt_span(run_id, number), links=attempt_before(self._run, number)
            ) as span:
                ending = await self._attend(attempt, feed, voice)
                if span is not None:
                    span.set(run_id=run_id, attempt=number, agent=self._run.agent_id)
                    if isinstance(ending, Failed):
                        span.fail(ending.failure.code)
                return ending
        finally:
            means.feeds.release(feed)

    async def _attend(self, attempt: Attempt, feed: RunFeed, voice: Voice) -> Ending:
        means, journal = self._means, attempt.journal
        means.live.add(self._run, attempt)
        self._attempt = attempt
        attempt.sign.show()
        try:
            if self._stop is not None:
                attempt.request_stop(*self._stop)
            if self._left:
                attempt.leave()
            ending = await attempt.converse(means.runtime, means.operations)
            attempt.scope.ended = run_finished(self._run.fence.run_id, "ended")
            attempt.scope.over.set()
            settler = self._settler(attempt, voice)
            ending = self._conclude(attempt, ending, settler, voice)
            if not isinstance(ending, Superseded | ends.LeftBehind):
                await _written(journal)
                if not attempt.goes_on:
                    feed.end()
            return ending
        finally:
            attempt.sign.hide()
            attempt.scope.over.set()
            means.live.remove(self._run, attempt)

    async def _begin(
        self, assignment: Assignment, meter: Meter, journal: Journal, feed: RunFeed, voice: Voice
    ) -> Attempt:
        means, addressee, run = self._means, assignment.addressee, self._run
        usage = UsageSum()
        voice.model_of = lambda: usage.model_id
        token = mint_token(TOKEN_KIND)
        # It opens the bridge alone, is found as the run's own is, and dies with it; nothing of it is kept.
        bridge_token = mint_token(BRIDGE_KIND, token.token_id)
        left = (assignment.deadline - now()) / SECOND
        scope = RunScope(
            fence=journal.fence,
            event_id=run.event_id,
            conversation_id=run.conversation_id,
            facts=addressee.facts,
            snapshot=assignment.snapshot,
            context=assignment.context,
            deadline=time.monotonic() + left + means.grace,
            audit=means.audit,
            usage=usage,
            meter=meter,
            counts=means.counts,
        )
        if assignment.attempt > 1:
            await self._take_up(scope)
        effects = SideEffects(scope, journal, means.calls.artifacts.rules(scope), means.calls)
        policy = assignment.snapshot.spec
        streams = not policy.delivery_policy.streaming_disabled and not policy.guards.masked_outbound_patterns
        results = Results(journal=journal, feed=feed, voice=voice, effects=effects, usage=usage, streams=streams)
        sign = Sign(means.signs, place_of(addressee.facts) if addressee.replies else None)
        clock = _clock(assignment, scope, sign)
        attempt = Attempt(assignment, scope, journal, results, token, bridge_token, clock, sign, grace=means.grace)
        scope.stage = Stage(
            journal=journal,
            voice=voice,
            addressee=addressee,
            flush=results.flush,
            pause=clock.pause,
            resume=clock.resume,
            may_pause=lambda: clock.may_still_pause,
            end_soon=attempt.end_soon,
            tell=attempt.tell,
            is_left=lambda: attempt.is_left,
        )
        scope.rounds_spent = lambda what: attempt.request_stop(ends.TOOL_ROUNDS, f"the run had {what}, and no end")
        scope.injected = results.record_injected
        journal.on_failure, journal.rider = attempt.lose, meter.ride
        new = NewAttempt(
            token_id=token.token_id,
            token_hash=token.secret_hash,
            plugin_id=assignment.snapshot.runner.plugin_id,
            runtime_generation="",
            deadline=assignment.deadline,
        )
        journal.before(lambda tx: self._start(tx, assignment, new))
        _announce(journal, assignment)
        journal.flush()
        return attempt

    async def _take_up(self, scope: RunScope) -> None:
        """What earlier attempts have done, and the messages that none of them took."""
        earlier = await self._means.effects.of_run(scope.workspace_id, scope.run_id, EFFECTS_READ)
        scope.earlier_effects = list(earlier)
        for steer in await self._means.ledgers.steers(scope.workspace_id, scope.run_id, STEERS_READ):
            if steer.state is SteerState.QUEUED:
                scope.arrivals.append(Arrival(steer.steering_id, steer.event_id, steer.payload, steer.position))

    def _start(self, tx: Transaction, assignment: Assignment, new: NewAttempt) -> None:
        fence, frozen = self._run.fence, assignment.frozen
        if frozen is not None:
            freeze_snapshot(tx, fence.workspace_id, fence.run_id, frozen.snapshot, frozen.context)
        begin_attempt(tx, fence, self._means.database.epoch, new)

    def _settler(self, attempt: Attempt, voice: Voice) -> Settler:
        """One that takes back what people have not answered, where the run asked them anything."""
        scope, decisions = attempt.scope, self._means.decisions
        settler = Settler(attempt.assignment.addressee, attempt.journal, voice, self._work)
        settler.gives_up_effects = bool(scope.open_effects) or scope.fence.attempt > 1
        if scope.asked or scope.approvals:
            settler.withdraw = lambda tx, failed: decisions.withdraw(tx, scope.workspace_id, scope.run_id, failed)
            settler.withdrawn = decisions.withdrawn
        return settler

    def _conclude(self, attempt: Attempt, ending: Ending, settler: Settler, voice: Voice) -> Ending:
        """Put the end into the journal; answers what the end is in the end."""
        usage, meter = attempt.scope.usage, attempt.scope.meter
        if isinstance(ending, Completed | Failed):
            spent = meter.close()
            if spent is not None:
                attempt.journal.also(spent)
        if isinstance(ending, Completed):
            ending = checked_end(attempt, ending, voice)
        if isinstance(ending, Completed):
            _drop_arrivals(attempt)
            settler.complete(ending, usage)
        elif isinstance(ending, Failed):
            delay = delay_before_next(attempt, ending, voice)
            if delay is None:
                # Who has the whole answer need not be told that the runner misbehaved after it.
                answered = voice.has_spoken and attempt.results.has_completed
                _drop_arrivals(attempt)
                settler.fail(ending, usage, answered=answered)
            else:
                attempt.goes_on = True
                settler.try_again(ending.failure.code, now() + round(delay * SECOND))
        return ending

    def _journal(self, feed: RunFeed, fence: Fence) -> Journal:
        means = self._means
        return Journal(means.database.writer, feed, means.cursors, fence, self._run.last_sequence)


def _clock(assignment: Assignment, scope: RunScope, sign: Sign) -> RunClock:
    """While a person decides nobody types, and nothing is counted."""

    def stopped() -> None:
        scope.stand_still()
        sign.hide()

    def added(seconds: float) -> None:
        scope.add_time(seconds)
        sign.show()

    snapshot = assignment.snapshot
    return RunClock(assignment.deadline, may_wait(snapshot.spec, snapshot.permissions.allowed), stopped, added)


def _drop_arrivals(attempt: Attempt) -> None:
    """Messages that the run never took: each becomes a run of its own in the unit of the end."""
    for arrival in attempt.scope.arrivals:
        record_steering(attempt.journal, arrival, SteerState.DROPPED)


def _payer(assignment: Assignment) -> Payer:
    run = assignment.run
    return Payer(
        workspace_id=run.fence.workspace_id,
        agent_id=run.agent_id,
        conversation_id=run.conversation_id,
        run_id=run.fence.run_id,
        attempt=assignment.attempt,
    )


def _announce(journal: Journal, assignment: Assignment) -> None:
    if assignment.attempt > 1:
        reset = run_pb2.RunReset(attempt=assignment.attempt, reason="a new attempt begins")
        journal.append("reset", run_pb2.RunEvent(reset=reset))
        return
    changed = run_pb2.RunStateChanged(state=run_pb2.RUN_STATE_RUNNING)
    journal.append("state_changed", run_pb2.RunEvent(state_changed=changed))


async def _written(journal: Journal) -> None:
    journal.flush()
    await journal.settled()
