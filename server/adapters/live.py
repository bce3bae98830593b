"""Live text of runs for one connection."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from portway.rpc.errors import LimitExceeded, PortwayError, Reason
from portway.server.adapters.frames import Outbound, RunUpdated
from portway.server.runs.types import Run

RUNS_AT_ONCE = 1_000


class Batch(Protocol):
    @property
    def payloads(self) -> Sequence[bytes]:
        """Serialized events of a run."""


class Feeds(Protocol):
    """Runs that can be watched."""

    def watch(
        self, workspace_id: str, run_id: str, after_sequence: int = 0
    ) -> AbstractAsyncContextManager[AsyncIterator[Batch]]:
        """Events after a sequence, then live ones until the terminal. Raises NotFound, OutOfRange."""


class Runs(Protocol):
    """Where runs belong."""

    async def run(self, workspace_id: str, run_id: str) -> Run:
        """Raises NotFound."""


class LiveText:
    """Watches runs and writes what happens to one connection. A slow adapter holds up nothing but its own text."""

    def __init__(
        self, feeds: Feeds, runs: Runs, workspace_id: str, outbound: Outbound, tasks: asyncio.TaskGroup
    ) -> None:
        self._feeds = feeds
        self._runs = runs
        self._workspace_id = workspace_id
        self._outbound = outbound
        self._tasks = tasks
        self._watched: dict[str, asyncio.Task[None]] = {}

    def follow(self, run_id: str, conversation_id: str) -> None:
        """The run answers an event of this adapter. Past the limit it comes only as a delivery."""
        if run_id not in self._watched and len(self._watched) < RUNS_AT_ONCE:
            self._begin(run_id, conversation_id, 0)

    async def watch(self, run_id: str, after_sequence: int) -> None:
        """The adapter asks: what it was sent before may be lost."""
        self.stop(run_id)
        if len(self._watched) < RUNS_AT_ONCE:
            self._begin(run_id, "", after_sequence)
            return
        error = LimitExceeded(
            f"This connection follows {RUNS_AT_ONCE} runs already. Stop one of them, or wait for its end.",
            reason=Reason.OVERLOADED,
            retry_after=5.0,
        )
        await self._outbound.put_update(RunUpdated(run_id, "", error=error))

    def stop(self, run_id: str) -> None:
        task = self._watched.pop(run_id, None)
        if task is not None:
            task.cancel()

    def stop_all(self) -> None:
        for run_id in list(self._watched):
            self.stop(run_id)

    def _begin(self, run_id: str, conversation_id: str, after_sequence: int) -> None:
        task = self._tasks.create_task(self._watch(run_id, conversation_id, after_sequence), name=f"live-{run_id}")
        self._watched[run_id] = task
        task.add_done_callback(lambda done: self._forget(run_id, done))

    def _forget(self, run_id: str, done: "asyncio.Task[None]") -> None:
        if self._watched.get(run_id) is done:
            del self._watched[run_id]

    async def _watch(self, run_id: str, conversation_id: str, after_sequence: int) -> None:
        try:
            if not conversation_id:
                conversation_id = (await self._runs.run(self._workspace_id, run_id)).conversation_id
            async with self._feeds.watch(self._workspace_id, run_id, after_sequence) as batches:
                async for batch in batches:
                    await self._outbound.put_update(RunUpdated(run_id, conversation_id, batch.payloads))
        except PortwayError as error:
            await self._outbound.put_update(RunUpdated(run_id, conversation_id, error=error))
