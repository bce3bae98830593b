"""Stopping a run and everything that it has begun, with a receipt of it."""

import asyncio
from dataclasses import replace

from portway.server.runs import ending as ends
from portway.server.runs.attempts import request_cancel
from portway.server.runs.close import Closer
from portway.server.runs.dispatch import Dispatcher
from portway.server.runs.execute import Execution
from portway.server.runs.receipt import Asked, Inquiry, Receipt, Stopped, calls_of
from portway.server.runs.store import FIRST_PAGE, Runs
from portway.server.runs.types import Run, RunFilter, RunState
from portway.server.storage_engine.writer import Writer

# Beyond the grace time: what writing the end down takes at most.
MARGIN_SECONDS = 5.0
_OPEN = (RunState.QUEUED, RunState.RUNNING, RunState.WAITING)
_CHILDREN = 100
_DEPTH = 8


class Canceller:
    """Cancels runs, wherever they are."""

    def __init__(
        self, writer: Writer, runs: Runs, dispatcher: Dispatcher, closer: Closer, inquiry: Inquiry, grace: float
    ) -> None:
        self._writer = writer
        self._runs = runs
        self._dispatcher = dispatcher
        self._closer = closer
        self._inquiry = inquiry
        self._grace = grace

    async def cancel(self, workspace_id: str, run_id: str, reason: str) -> Receipt:
        """Returns when the run is settled, at the latest after the grace time. Raises NotFound."""
        return await self._cancel(workspace_id, run_id, reason or "it was cancelled", _DEPTH)

    async def _cancel(self, workspace_id: str, run_id: str, reason: str, depth: int) -> Receipt:
        run = await self._runs.run(workspace_id, run_id)
        if run.state.final:
            return Receipt(run, already_ended=True)
        # On disk first: a host that dies now still knows that the run is not wanted.
        await asyncio.shield(self._writer.submit(lambda tx: request_cancel(tx, workspace_id, run_id, reason)))
        execution = self._dispatcher.execution(workspace_id, run_id)
        if execution is None:
            receipt = await self._waiting(run, reason)
        else:
            receipt = await self._executing(execution, run, reason)
        return replace(receipt, children=await self._children(run, reason, depth))

    async def _waiting(self, run: Run, reason: str) -> Receipt:
        asked = await self._inquiry.asked(run)
        self._dispatcher.withdraw(run.workspace_id, run.run_id)
        ending = ends.failed(ends.CANCELLED, reason)
        run = await self._closer.fail(run.workspace_id, run.run_id, ending, self._dispatcher)
        return Receipt(run, parts=tuple(await self._inquiry.people(run, asked)))

    async def _executing(self, execution: Execution, run: Run, reason: str) -> Receipt:
        # The runner is told before anything is read: what it had begun by then is still remembered.
        calls = calls_of(execution)
        if execution.attempt is not None:
            execution.attempt.scope.held.stopping()
        execution.request_stop(ends.CANCELLED, reason)
        asked = await self._inquiry.asked(run)
        reachable = True
        try:
            async with asyncio.timeout(self._grace + MARGIN_SECONDS):
                await execution.finished.wait()
            reachable = execution.attempt is None or not execution.attempt.unresponsive
        except TimeoutError:
            reachable = False
        return await self._told(execution, run, asked, calls, reachable)

    async def _told(
        self, execution: Execution, run: Run, asked: Asked, calls: list[Stopped], reachable: bool
    ) -> Receipt:
        run = await self._runs.run(run.workspace_id, run.run_id)
        parts = await self._inquiry.parts(execution, run.state.final)
        parts += calls
        parts += await self._inquiry.people(run, asked)
        return Receipt(run, reachable=reachable, parts=tuple(parts))

    async def _children(self, run: Run, reason: str, depth: int) -> tuple[Receipt, ...]:
        """Runs that go on from this one and have not ended."""
        if not depth:
            return ()
        which = RunFilter(conversation_id=run.conversation_id, states=_OPEN, parent_run_id=run.run_id)
        found = await self._runs.page(run.workspace_id, which, FIRST_PAGE, _CHILDREN)
        return tuple([await self._cancel(one.workspace_id, one.run_id, reason, depth - 1) for one in found])
