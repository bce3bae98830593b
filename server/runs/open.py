"""Ending runs that have not ended, many at once."""

import asyncio
from dataclasses import replace

from portway.rpc.outcome import outcome_of
from portway.server.runs.cancel import Canceller
from portway.server.runs.store import FIRST_PAGE, Runs
from portway.server.runs.types import RunCursor, RunFilter, RunState

OPEN = (RunState.QUEUED, RunState.RUNNING, RunState.WAITING)
EXECUTING = (RunState.RUNNING, RunState.WAITING)
_PAGE = 200
_AT_ONCE = 64


class OpenRuns:
    """Of a workspace, by whatever a list of runs can be filtered by."""

    def __init__(self, runs: Runs, canceller: Canceller) -> None:
        self._runs = runs
        self._canceller = canceller

    async def any(self, workspace_id: str, which: RunFilter) -> bool:
        """Whether there is one that fits; where the filter names no states, any open one."""
        return bool(await self._runs.page(workspace_id, _open(which), FIRST_PAGE, 1))

    async def end(self, workspace_id: str, which: RunFilter, reason: str) -> int:
        """Cancel every one that fits; answers how many there were. One that cannot be cancelled now is left."""
        room = asyncio.Semaphore(_AT_ONCE)

        async def end_one(run_id: str) -> None:
            async with room:
                await outcome_of(self._canceller.cancel(workspace_id, run_id, reason), "cancelling a run")

        count, after, wanted = 0, FIRST_PAGE, _open(which)
        while page := await self._runs.page(workspace_id, wanted, after, _PAGE):
            async with asyncio.TaskGroup() as group:
                for run in page:
                    group.create_task(end_one(run.run_id))
            count += len(page)
            after = RunCursor(page[-1].event_sequence, page[-1].run_id)
        return count


def _open(which: RunFilter) -> RunFilter:
    return which if which.states else replace(which, states=OPEN)
