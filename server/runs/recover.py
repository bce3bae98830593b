"""After a start: runs that waited go on waiting; those that executed are begun again or ended, each by its policy."""

import asyncio

import structlog

from portway.rpc.errors import NotFound, PortwayError, Stale, WrongState
from portway.rpc.telemetry import safe_text
from portway.server.agents.types import InterruptedPolicy
from portway.server.runs import ending as ends
from portway.server.runs.attempts import requeue_run
from portway.server.runs.close import Closer, queued
from portway.server.runs.dispatch import Dispatcher
from portway.server.runs.pending import QueuedRun
from portway.server.runs.store import Ledgers, Runs
from portway.server.runs.types import Fence, OpenRun, Run, RunState
from portway.server.snapshot.restore import interrupted_policy
from portway.server.storage_engine.writer import Writer

PAGE = 1_000
_MESSAGE_KINDS = frozenset({"message_completed"})


class Recovery:
    """Reads every open run once, in the order of their events."""

    def __init__(self, writer: Writer, runs: Runs, ledgers: Ledgers, closer: Closer, dispatcher: Dispatcher) -> None:
        self._writer = writer
        self._runs = runs
        self._ledgers = ledgers
        self._closer = closer
        self._dispatcher = dispatcher
        self._log = structlog.get_logger("portway.host.recovery")

    async def recover(self) -> int:
        """Answers how many runs go on. Called before anything new is accepted or dispatched."""
        count = 0
        after: OpenRun | None = None
        while page := await self._runs.open_runs(after, PAGE):
            # Together: their writes share commits, and a hundred thousand runs are back in seconds.
            going_on = await asyncio.gather(*(self._one(run) for run in page))
            # Added at once and in order: one that waited must not overtake one that was interrupted.
            for waiting in going_on:
                if waiting is not None:
                    self._dispatcher.add(waiting)
            count += len(page)
            after = page[-1]
        if count:
            self._log.info("open runs were taken over", count=count)
        return count

    async def _one(self, run: OpenRun) -> QueuedRun | None:
        """The run as it goes on; None where it has ended."""
        try:
            if run.cancel_time:
                await self._end(run, ends.failed(ends.CANCELLED, "it was cancelled before the host was started anew"))
            elif run.state is RunState.QUEUED:
                return _waiting(run)
            else:
                return await self._interrupted(run)
        except (Stale, WrongState, NotFound):
            return None
        except PortwayError as error:
            # It stays open and is looked at again with the next start.
            self._log.error("an open run could not be taken over", run_id=run.run_id, error=safe_text(error))
        return None

    async def _interrupted(self, run: OpenRun) -> QueuedRun | None:
        if await self._closer.has_asked(run.workspace_id, run.run_id):
            await self._end(run, ends.failed(ends.RESTARTED, "The host was started anew after the question."))
            return None
        if await self._has_answered(run):
            ending = ends.failed(ends.RESTARTED, "The host was started anew after the answer and before the run's end.")
            await self._end(run, ending, answered=True)
            return None
        policy = await self._policy(run)
        if policy is InterruptedPolicy.RETRY and run.attempt < ends.MAX_ATTEMPTS:
            fence = await self._writer.run(lambda tx: requeue_run(tx, run.fence, ends.RESTARTED))
            whole = await self._runs.run(run.workspace_id, run.run_id)
            return _again(whole, fence)
        often = f" It was begun {run.attempt} times." if policy is InterruptedPolicy.RETRY else ""
        await self._end(run, ends.failed(ends.RESTARTED, f"The host was started anew while it ran.{often}"))
        return None

    async def _policy(self, run: OpenRun) -> InterruptedPolicy:
        try:
            kept, _ = await self._ledgers.snapshot(run.workspace_id, run.run_id)
        except NotFound:
            # Nothing was granted yet, so nothing can have happened.
            return InterruptedPolicy.RETRY
        return interrupted_policy(kept)

    async def _has_answered(self, run: OpenRun) -> bool:
        """Whether people have a message of this run already: a second attempt would say it again."""
        after = 0
        while page := await self._ledgers.ledger(run.workspace_id, run.run_id, after, PAGE):
            if any(event.kind in _MESSAGE_KINDS for event in page):
                return True
            after = page[-1].sequence
        return False

    async def _end(self, run: OpenRun, ending: ends.Failed, *, answered: bool = False) -> None:
        await self._closer.fail(run.workspace_id, run.run_id, ending, self._dispatcher, answered=answered)


def _waiting(run: OpenRun) -> QueuedRun:
    return QueuedRun(
        fence=run.fence,
        event_id="",
        event_sequence=run.event_sequence,
        conversation_id=run.conversation_id,
        agent_id=run.agent_id,
        last_sequence=run.last_sequence,
        available_time=run.available_time,
    )


def _again(run: Run, fence: Fence) -> QueuedRun:
    waiting = queued(run)
    return QueuedRun(
        fence=fence,
        event_id=waiting.event_id,
        event_sequence=waiting.event_sequence,
        conversation_id=waiting.conversation_id,
        agent_id=waiting.agent_id,
        last_sequence=waiting.last_sequence,
        parent_run_id=waiting.parent_run_id,
        trace_id=waiting.trace_id,
    )
