"""Keeps one plugin's process: starts it when it is needed, replaces it, and starts it again after a crash."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

from portway.rpc.errors import Reason, Unavailable
from portway.rpc.telemetry import safe_text
from portway.runtime.plugins.types import PluginDefinition, StartMode
from portway.runtime.workers.backoff import Backoff
from portway.runtime.workers.log import PluginLog
from portway.runtime.workers.types import WorkerLimits, WorkerState, WorkerStatus
from portway.runtime.workers.worker import Worker

# A run that comes while the plugin backs off waits this long for it, and is refused where it would be longer.
PATIENCE = 2.0
MAX_REASON = 1000

StartWorker = Callable[[PluginDefinition, int, PluginLog], Awaitable[Worker]]


class Keeper:
    """Owns the processes of one plugin. `tasks` owns its background work."""

    def __init__(
        self, plugin: PluginDefinition, start: StartWorker, tasks: asyncio.TaskGroup, limits: WorkerLimits
    ) -> None:
        self.plugin = plugin
        self.log = PluginLog()
        self._start = start
        self._tasks = tasks
        self._limits = limits
        self._backoff = Backoff(limits.longest_backoff)
        self._current: Worker | None = None
        self._old: dict[Worker, asyncio.Task[None]] = {}
        self._starting: asyncio.Task[None] | None = None
        self._failure = ""
        self._generation = 0
        self._restart_count = 0
        self._closed = False
        self._events = structlog.get_logger("portway.runtime.workers").bind(plugin=plugin.id)

    def status(self) -> WorkerStatus:
        worker = self._current
        state, reason = self._state()
        return WorkerStatus(
            state=state,
            reason=reason,
            pid=worker.process.pid if worker else 0,
            generation=self._generation,
            restart_count=self._restart_count,
            run_count=sum(one.run_count for one in (*self._old, *([worker] if worker else []))),
            start_time=worker.start_time if worker else None,
        )

    def _state(self) -> tuple[WorkerState, str]:
        if self._current is not None:
            return WorkerState.RUNNING, ""
        if self._backoff.remaining() > 0:
            return WorkerState.BACKING_OFF, self._failure
        if self._starting is not None:
            return WorkerState.STARTING, ""
        if self._old and self._closed:
            return WorkerState.DRAINING, ""
        return WorkerState.IDLE, self._failure

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Worker]:
        """The process for one run or call. Raises `Unavailable` where it cannot be started for now."""
        worker = await self._ready()
        worker.take()
        finished = False
        try:
            yield worker
            finished = True
        finally:
            worker.give_back(finished=finished)

    async def _ready(self) -> Worker:
        while (worker := self._current) is None:
            if self._closed:
                raise Unavailable(f"the plugin {self.plugin.id} is being removed", reason=Reason.RUNNER_UNAVAILABLE)
            if self._backoff.remaining() > PATIENCE:
                raise self._unavailable(self._backoff.remaining())
            self.ensure()
            if self._starting is not None:
                await asyncio.wait([self._starting])
            if self._failure:
                raise self._unavailable(max(1.0, self._backoff.remaining()))
        return worker

    def _unavailable(self, retry_after: float) -> Unavailable:
        message = f"the plugin {self.plugin.id} cannot be used for now: {self._failure}"
        return Unavailable(message, reason=Reason.RUNNER_UNAVAILABLE, retry_after=retry_after)

    def ensure(self) -> None:
        """Starts the process in the background, where there is none and none is being started."""
        if self._current is None and self._starting is None:
            self._failure = ""
            self._starting = self._tasks.create_task(self._bring_up(), name=f"start {self.plugin.id}")

    async def _bring_up(self) -> None:
        plugin = self.plugin
        try:
            await asyncio.sleep(self._backoff.remaining())
            self._generation += 1
            worker = await self._start(plugin, self._generation, self.log)
        except (Unavailable, OSError, ValueError) as error:
            self._fail(error.message if isinstance(error, Unavailable) else safe_text(error))
            return
        finally:
            self._starting = None
        if plugin is not self.plugin or self._closed:
            # It was replaced while it started; whoever waits asks again.
            await worker.stop()
            return
        self._current = worker
        self._events.info("plugin started", pid=worker.process.pid, generation=worker.generation)
        self._tasks.create_task(self._watch(worker), name=f"watch {plugin.id}")

    def _fail(self, why: str) -> None:
        said = self.log.last_error()
        self._failure = f"{why} (it says: {said})"[:MAX_REASON] if said else why[:MAX_REASON]
        self._backoff.fail()
        self._events.error("plugin does not start", reason=self._failure)

    async def _watch(self, worker: Worker) -> None:
        """Until the process ends, by itself or because it is idle."""
        while not worker.end.done() and worker is self._current:
            await asyncio.wait([worker.end], timeout=self._until_idle(worker))
            if not worker.end.done() and worker is self._current and self._until_idle(worker) == 0:
                self._events.info("plugin stopped: idle", generation=worker.generation)
                self._current = None
                await worker.stop()
        await asyncio.shield(worker.end)
        if not worker.stopping:
            await self._crashed(worker)

    def _until_idle(self, worker: Worker) -> float | None:
        """Seconds until the process has been idle for long enough; None where it stays."""
        limit = self.plugin.idle_stop
        if limit is None:
            return None
        if worker.run_count:
            return limit
        return max(0.0, worker.last_used + limit - time.monotonic())

    async def _crashed(self, worker: Worker) -> None:
        healthy = worker.finished_count > 0 or worker.age > self._limits.healthy_after
        if worker is self._current:
            self._current = None
            self._restart_count += 1
            self._backoff.crash(healthy=healthy)
            self._failure = f"its process {worker.end.result()}"
            if self.plugin.start is StartMode.BOOT:
                self.ensure()
        self._events.error(
            "plugin crashed", end=str(worker.end.result()), generation=worker.generation, run_count=worker.run_count
        )
        await worker.clean_up()

    def replace(self, plugin: PluginDefinition) -> None:
        """The plugin's files changed: new runs get a process of the new ones."""
        self.plugin = plugin
        self._backoff = Backoff(self._limits.longest_backoff)
        self.recycle(0)

    def recycle(self, generation: int) -> None:
        """Replaces the process, if it has this generation (0: whichever it has); the old one drains before it ends."""
        if self._retire_current(generation):
            self.ensure()

    def _retire_current(self, generation: int) -> bool:
        worker = self._current
        if worker is None or generation not in (0, worker.generation):
            return False
        self._current = None
        self._old[worker] = self._tasks.create_task(self._retire(worker), name=f"retire {self.plugin.id}")
        return True

    async def _retire(self, worker: Worker) -> None:
        # One that does not even answer has nothing left to finish, and would only hold up its neighbours' runs.
        alive = await worker.is_alive()
        if alive:
            # Nothing new reaches it from here on; it is told to end once nothing is left.
            await self._until_unused(worker)
            await worker.drain()
        self._events.info("plugin replaced", generation=worker.generation, alive=alive, run_count=worker.run_count)
        await worker.stop(kill=not alive)
        del self._old[worker]

    async def _until_unused(self, worker: Worker) -> None:
        try:
            async with asyncio.timeout(self._limits.drain):
                await worker.unused.wait()
        except TimeoutError:
            self._events.warning("plugin did not drain in time", generation=worker.generation)

    async def close(self) -> None:
        """Ends the process, after its runs within the time to drain."""
        self._closed = True
        self._retire_current(0)
        if self._starting is not None:
            self._starting.cancel()
        tasks = [*self._old.values(), *([self._starting] if self._starting else [])]
        if tasks:
            await asyncio.wait(tasks)
