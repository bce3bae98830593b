"""The host's scheduler: takes runs from the queue, a bounded number at a time, and keeps each until it is settled."""

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from portway.rpc.errors import LimitExceeded, NotFound, PortwayError, Quota, Reason
from portway.rpc.telemetry import bound, safe_text
from portway.server.runs import ending as ends
from portway.server.runs.attempt import Attempt
from portway.server.runs.close import Closer, queued
from portway.server.runs.ending import Completed, Ending, Failed
from portway.server.runs.execute import Execution, Means
from portway.server.runs.pending import Arrival, QueuedRun
from portway.server.runs.queue import RunQueue
from portway.server.runs.types import Fence, Run
from portway.server.storage_engine.clock import SECOND, now

MAX_ACTIVE = 256
MAX_WAITING = 100_000
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 10.0


class RunQuotas(Protocol):
    """How many runs a workspace may have."""

    def active_limit(self, workspace_id: str) -> int | None:
        """How many may execute at once; None for no limit."""

    def admit_queued(self, workspace_id: str, waiting: int) -> None:
        """Raises LimitExceeded (QUOTA_EXCEEDED) where one more than those waiting is too many."""


class Dispatcher:
    """Owns the queue and every execution. This is the `Work` that others hand runs to."""

    def __init__(
        self,
        means: Means,
        closer: Closer,
        quotas: RunQuotas,
        max_active: int = MAX_ACTIVE,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._means = means
        self._closer = closer
        self._max_active = max_active
        self._max_waiting = max_waiting
        self._quotas = quotas
        self._queue = RunQueue(quotas.active_limit)
        self._executions: dict[tuple[str, str], Execution] = {}
        self._again: dict[tuple[str, str], QueuedRun] = {}
        self._replaced: dict[tuple[str, str], Failed] = {}
        self._to_close: list[tuple[Run, Failed]] = []
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self._draining = False
        self._log = structlog.get_logger("portway.host.runs")

    @property
    def waiting_count(self) -> int:
        return self._queue.waiting_count

    @property
    def active_count(self) -> int:
        return len(self._executions)

    def execution(self, workspace_id: str, run_id: str) -> Execution | None:
        """The execution of a run that has left the queue and is not settled."""
        return self._executions.get((workspace_id, run_id))

    # What accepting and settling hand over.

    def ensure_room(self, workspace_id: str) -> None:
        if self._queue.waiting_count >= self._max_waiting:
            raise LimitExceeded(
                f"{self._max_waiting} runs wait already. Send the event again in a moment; its key makes that safe.",
                reason=Reason.OVERLOADED,
                retry_after=2.0,
                quota=Quota("host", f"{self._max_waiting} waiting runs"),
            )
        self._quotas.admit_queued(workspace_id, self._queue.waiting_of(workspace_id))

    def is_busy(self, workspace_id: str, conversation_id: str) -> bool:
        return self._queue.is_busy((workspace_id, conversation_id))

    def steerable(self, workspace_id: str, conversation_id: str) -> Fence | None:
        attempt = self._means.live.of_conversation(workspace_id, conversation_id)
        if attempt is None or attempt.stop is not None or attempt.scope.ended is not None:
            return None
        able = "steering" in attempt.assignment.snapshot.runner.capabilities
        return attempt.scope.fence if able and attempt.results.terminal is None else None

    def add(self, run: QueuedRun) -> None:
        if run.key not in self._queue:
            self._queue.put(run, now())
            self._changed.set()

    def again(self, run: QueuedRun) -> None:
        # Its execution has not ended yet; it takes its place when that leaves.
        self._again[run.key] = run

    def steer(self, fence: Fence, arrival: Arrival) -> None:
        attempt = self._means.live.of_run(fence.workspace_id, fence.run_id)
        if attempt is not None and attempt.scope.fence == fence:
            attempt.steer(arrival)

    def unsteer(self, workspace_id: str, run_id: str, event_id: str) -> None:
        attempt = self._means.live.of_run(workspace_id, run_id)
        if attempt is not None:
            attempt.unsteer(event_id)

    def interrupt(self, workspace_id: str, conversation_id: str, event_id: str) -> None:
        run = self._queue.active_in((workspace_id, conversation_id))
        if run is not None and run.event_id != event_id:
            self.stop(workspace_id, run.fence.run_id, "a newer message took its place")

    def stop(self, workspace_id: str, run_id: str, reason: str) -> bool:
        """Ask an executing run to stop; false where none executes."""
        execution = self._executions.get((workspace_id, run_id))
        if execution is None:
            return False
        execution.request_stop(ends.CANCELLED, reason)
        return True

    def replace(self, run: Run, reason: str) -> None:
        ending = ends.failed(ends.CANCELLED, reason)
        execution = self._executions.get((run.workspace_id, run.run_id))
        if execution is not None:
            # It is closed from its row when it has left: until then it may still hold the run's feed.
            self._replaced[execution.run.key] = ending
            execution.request_stop(ends.CANCELLED, reason)
            return
        self.withdraw(run.workspace_id, run.run_id)
        self._to_close.append((run, ending))
        self._changed.set()

    def review(self, workspace_id: str) -> None:
        """How many runs of the workspace may execute has changed."""
        self._queue.review(workspace_id)
        self._changed.set()

    def withdraw(self, workspace_id: str, run_id: str) -> QueuedRun | None:
        """Take a run out that still waits; the caller settles it."""
        return self._queue.remove((workspace_id, run_id), now())

    # The loop.

    async def serve(self) -> None:
        """Execute runs until cancelled. A broken execution ends neither the others nor this."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                while self._to_close:
                    group.create_task(self._settle_somehow(queued(self._to_close[0][0]), self._to_close.pop(0)[1]))
                while not self._draining and len(self._executions) < self._max_active:
                    run = self._queue.take(now())
                    if run is None:
                        break
                    execution = Execution(self._means, self, run)
                    self._executions[run.key] = execution
                    group.create_task(self._keep(execution, group))
                await self._wait()

    async def drain(self, grace: float) -> None:
        """Begin no more runs and wait for those that execute; the next start has what is left after `grace` seconds."""
        self._draining = True
        try:
            async with asyncio.timeout(grace):
                while self._executions:
                    self._ended.clear()
                    await self._ended.wait()
        except TimeoutError:
            self._log.warning("runs are left for the next start", count=len(self._executions))
        for execution in list(self._executions.values()):
            execution.leave()
        while self._executions:
            self._ended.clear()
            await self._ended.wait()

    async def _wait(self) -> None:
        due = self._queue.next_time()
        timeout = None if due is None else max(0.001, (due - now()) / SECOND)
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _keep(self, execution: Execution, group: asyncio.TaskGroup) -> None:
        run = execution.run
        with bound(run_id=run.fence.run_id):
            try:
                ending = await execution.execute()
                replaced = self._replaced.pop(run.key, None)
                if replaced is not None:
                    await self._settle_somehow(run, replaced)
                await self._say(execution, ending)
                if execution.attempt is not None and execution.attempt.unresponsive:
                    group.create_task(self._recycle(execution.attempt))
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - a supervisor: a broken run must not take the others with it
                replaced = self._replaced.pop(run.key, None)
                if replaced is None:
                    self._log.error("a run broke", error=safe_text(error), exc_info=error)
                await self._settle_somehow(run, replaced or _broken(error))
            finally:
                self._leave(execution)

    def _leave(self, execution: Execution) -> None:
        run = execution.run
        execution.finished.set()
        del self._executions[run.key]
        self._queue.done(run, now())
        again = self._again.pop(run.key, None)
        if again is not None:
            self._queue.put(again, now())
        self._changed.set()
        self._ended.set()

    async def _settle_somehow(self, run: QueuedRun, ending: Failed) -> None:
        """No run stays without an end: tried until the database takes it, or somebody else has settled it."""
        pause = _FIRST_PAUSE
        while not self._draining:
            try:
                settled = await self._closer.fail(run.fence.workspace_id, run.fence.run_id, ending, self)
                if settled.state.final or run.key in self._again:
                    return
                reason = "its last writes are still on their way"
            except NotFound:
                return
            except PortwayError as error:
                reason = safe_text(error)
            self._log.warning("a run cannot be settled yet", reason=reason, retry_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _recycle(self, attempt: Attempt) -> None:
        plugin_id = attempt.assignment.snapshot.runner.plugin_id
        try:
            await self._means.runtime.recycle(plugin_id, attempt.generation)
        except PortwayError as error:
            self._log.warning("a plugin could not be recycled", plugin=plugin_id, reason=safe_text(error))

    async def _say(self, execution: Execution, ending: Ending | None) -> None:
        if isinstance(ending, Completed | Failed):
            run = execution.run
            outcome = _outcome(execution, ending)
            self._means.counts.attempt_ended(outcome, run.agent_id, run.queued, execution.began)
            if outcome != "tried_again":
                code = ending.failure.code if isinstance(ending, Failed) else ""
                await self._means.traces.ended(run, outcome, code)
        if isinstance(ending, Failed):
            failure = ending.failure
            log: Callable[..., object] = self._log.info if failure.code == ends.CANCELLED else self._log.warning
            log("run failed", code=failure.code, reason=failure.message, agent=execution.run.agent_id)


def _outcome(execution: Execution, ending: Completed | Failed) -> str:
    if isinstance(ending, Completed):
        return "completed"
    if execution.attempt is not None and execution.attempt.goes_on:
        return "tried_again"
    return "cancelled" if ending.failure.code == ends.CANCELLED else "failed"


def _broken(error: Exception) -> Failed:
    if isinstance(error, PortwayError):
        return ends.failed(ends.HOST_ERROR, f"The host could not go on with the run: {error.message}", retryable=True)
    return ends.failed(ends.HOST_ERROR, "The host could not go on with the run; its log says why.")
