"""Keeps one plugin's process: starts it when it is needed, replaces it, and starts it again after a crash."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import structlog

from portway.rpc.errors import Reason, Unavailable
from portway.rpc.telemetry import safe_text
from portway.runtime.environments.types import EnvironmentUnusable
from portway.runtime.plugins.types import PluginDefinition, StartMode
from portway.runtime.workers.backoff import Backoff
from portway.runtime.workers.log import PluginLog
from portway.runtime.workers.types import WorkerLimits, WorkerState, WorkerStatus
from portway.runtime.workers.worker import Worker

# A run that comes while the plugin backs off waits this long for it, and is refused where it would be longer.
PATIENCE = 2.0
MAX_REASON = 1000
# A call that was just cancelled may be counted once more; one that goes on is counted each time.
_LOOKS, _BETWEEN_LOOKS = 3, 0.3

StartWorker = Callable[[PluginDefinition, int, PluginLog], Awaitable[Worker]]
MakeReady = Callable[[PluginDefinition], Awaitable[object]]


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
        self._staged: Worker | None = None
        self._old: dict[Worker, asyncio.Task[None]] = {}
        self._left: dict[Worker, bool] = {}
        self._starting: asyncio.Task[None] | None = None
        self._failure = ""
        # Why its packages cannot be had; unlike a failed start this does not pass by waiting.
        self._broken = ""
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

    def plugins(self) -> list[PluginDefinition]:
        """The definition in use, and those of processes that are still there."""
        workers = [*self._old, *(one for one in (self._current, self._staged) if one is not None)]
        return [self.plugin, *(one.plugin for one in workers)]

    def under_way(self) -> list[PluginDefinition]:
        """The definitions of processes that are there, or are being started."""
        return [*([self.plugin] if self._starting is not None else []), *self.plugins()[1:]]

    def succeed(self, before: "Keeper") -> None:
        """Goes on where another keeper of the plugin ended: with its lines and its count of processes."""
        self.log, self._generation = before.log, before._generation

    def _state(self) -> tuple[WorkerState, str]:
        if self._current is not None:
            return WorkerState.RUNNING, ""
        if self._broken:
            return WorkerState.BROKEN, self._broken
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
                _, late = await asyncio.wait([self._starting], timeout=self._limits.start + PATIENCE)
                if late:
                    # Its packages are being installed, which may take minutes.
                    self._failure = "it is still being made ready"
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
        plugin, said_before = self.plugin, self.log.number
        try:
            await asyncio.sleep(self._backoff.remaining())
            self._generation += 1
            worker = await self._start(plugin, self._generation, self.log)
        except (Unavailable, OSError, ValueError) as error:
            self._starting = None
            self._fail(plugin, error, said_before)
            return
        except asyncio.CancelledError:
            self._starting = None
            raise
        self._starting = None
        if plugin is not self.plugin or self._closed:
            # It was replaced while it started; whoever waits asks again.
            await worker.stop()
            return
        self._use(worker)

    def _use(self, worker: Worker) -> None:
        """New runs go to this process."""
        self._current = worker
        worker.suspect = partial(self._suspect, worker)
        self._failure = self._broken = ""
        self._events.info("plugin started", pid=worker.process.pid, generation=worker.generation)
        self._tasks.create_task(self._watch(worker), name=f"watch {self.plugin.id}")
        self._tasks.create_task(self._watch_health(worker), name=f"look after {self.plugin.id}")

    def _fail(self, plugin: PluginDefinition, error: Exception, said_before: int) -> None:
        if plugin is not self.plugin:
            return
        self._failure = self._explained(error, said_before)
        self._broken = self._failure if isinstance(error, EnvironmentUnusable) else ""
        self._backoff.fail()
        self._events.error("plugin does not start", reason=self._failure)
        if plugin.start is StartMode.BOOT and not self._closed:
            # After the pause: it is wanted whether anybody asks or not.
            self._starting = self._tasks.create_task(self._bring_up(), name=f"start {plugin.id}")

    def _explained(self, error: Exception, said_before: int) -> str:
        why = error.message if isinstance(error, Unavailable) else safe_text(error)
        said = self.log.last_error(said_before)
        return f"{why} (it says: {said})"[:MAX_REASON] if said else why[:MAX_REASON]

    def prepare(self, make_ready: MakeReady) -> None:
        """Makes what the plugin needs in the background, before anybody asks for it."""
        self._tasks.create_task(self._prepare(make_ready), name=f"prepare {self.plugin.id}")

    async def _prepare(self, make_ready: MakeReady) -> None:
        plugin = self.plugin
        try:
            await make_ready(plugin)
            broken = ""
        except Unavailable as error:
            broken = error.message[:MAX_REASON]
        if plugin is self.plugin:
            self._broken = broken

    async def stage(self, plugin: PluginDefinition) -> None:
        """See `Supervisor.stage`."""
        await self.unstage()
        self._generation += 1
        said_before = self.log.number
        try:
            worker = await self._start(plugin, self._generation, self.log)
        except (Unavailable, OSError, ValueError) as error:
            reason = self._explained(error, said_before)
            raise Unavailable(
                f"version {plugin.version} of {plugin.id} cannot be used: {reason}", reason=Reason.RUNNER_UNAVAILABLE
            ) from None
        if self._closed or self._staged is not None:
            await worker.stop()
            raise Unavailable(f"another version of {plugin.id} is being made ready", reason=Reason.RUNNER_UNAVAILABLE)
        self._staged = worker

    async def unstage(self) -> None:
        """Ends a process that was made ready and is not wanted."""
        worker, self._staged = self._staged, None
        if worker is not None:
            await worker.stop()

    def adopt(self, plugin: PluginDefinition) -> bool:
        """Takes the process that was staged, if it is of exactly this definition; whether it did."""
        worker, self._staged = self._staged, None
        if worker is None:
            return False
        if worker.plugin != plugin or worker.end.done() or self._closed:
            self._tasks.create_task(worker.stop(), name=f"unstage {plugin.id}")
            return False
        self._retire_current(0)
        self._use(worker)
        return True

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

    async def _watch_health(self, worker: Worker) -> None:
        """Ends the process when its loop stands still: neither a cancel nor a new run would reach it."""
        while worker is self._current:
            await asyncio.wait([worker.end], timeout=self._limits.look)
            if worker.end.done() or worker is not self._current:
                return
            # Asked twice: where the runtime itself was held up, the first answer may only look late.
            if await worker.is_alive(self._limits.hung) or worker.end.done():
                continue
            if not await worker.is_alive() and not worker.end.done():
                self._events.error("plugin gives no sign of life", generation=worker.generation)
                await worker.end_hung()

    def _suspect(self, worker: Worker) -> None:
        """Its connection broke although it is there: it is replaced, unless it answers all the same."""
        if worker is self._current and not self._closed:
            self._tasks.create_task(self._examine(worker), name=f"examine {self.plugin.id}")

    async def _examine(self, worker: Worker) -> None:
        if not await worker.is_alive() and worker is self._current:
            self.recycle(worker.generation)

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
            self._failure = f"its process {worker.ended_how()}"
            if self.plugin.start is StartMode.BOOT:
                self.ensure()
        self._events.error(
            "plugin crashed", end=worker.ended_how(), generation=worker.generation, run_count=worker.run_count
        )
        await worker.clean_up()

    def look_after(self, worker: Worker) -> None:
        """A call on it was left before its end: a process in which it goes on all the same is replaced."""
        if worker is not self._current:
            return
        if worker in self._left:
            # Whoever looks already began before this one was left.
            self._left[worker] = True
            return
        self._left[worker] = False
        self._tasks.create_task(self._until_left(worker), name=f"settle {self.plugin.id}")

    async def _until_left(self, worker: Worker) -> None:
        stubborn, again = False, True
        try:
            while again and not stubborn:
                self._left[worker] = False
                stubborn = await self._holds_on(worker)
                again = self._left[worker]
        finally:
            del self._left[worker]
        if stubborn and worker is self._current:
            self._events.warning("plugin goes on after a cancel", generation=worker.generation)
            self.recycle(worker.generation)

    async def _holds_on(self, worker: Worker) -> bool:
        """Whether it says several times that it holds more than it was given."""
        await asyncio.wait([worker.end], timeout=self._limits.settle)
        for _ in range(_LOOKS):
            known = worker.run_count
            told = None if worker.end.done() else await worker.under_way()
            # One that does not answer is replaced, too; `recycle` finds out whether it can still be drained.
            if worker.end.done() or (told is not None and told <= max(known, worker.run_count)):
                return False
            await asyncio.wait([worker.end], timeout=_BETWEEN_LOOKS)
        return True

    def end(self, reason: str) -> None:
        """Ends the process at once, as a crash of its own would."""
        worker = self._current
        if worker is not None:
            self._events.error("plugin ended", reason=reason, generation=worker.generation)
            self._tasks.create_task(worker.kill(), name=f"end {self.plugin.id}")

    def replace(self, plugin: PluginDefinition) -> None:
        """The plugin's files changed: new runs get a process of the new ones."""
        self.plugin = plugin
        self._backoff = Backoff(self._limits.longest_backoff)
        self._failure = self._broken = ""
        if not self.adopt(plugin):
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
        try:
            # One that does not even answer has nothing left to finish, and would only hold up its neighbours' runs.
            alive = await worker.is_alive()
            if alive:
                # Nothing new reaches it from here on; it is told to end once nothing is left.
                await self._until_unused(worker)
                await worker.drain()
            self._events.info("plugin replaced", generation=worker.generation, alive=alive, run_count=worker.run_count)
            await worker.stop(kill=not alive)
        finally:
            # Also where it crashes meanwhile: what cleans up after that cancels the questions to it.
            del self._old[worker]

    async def _until_unused(self, worker: Worker) -> None:
        try:
            async with asyncio.timeout(self._limits.drain):
                await worker.unused.wait()
        except TimeoutError:
            self._events.warning("plugin did not drain in time", generation=worker.generation)

    async def close(self, *, kill: bool = False) -> None:
        """Ends the process, after its runs within the time to drain, or (`kill`) at once."""
        self._closed = True
        self._retire_current(0)
        for worker in list(self._old) if kill else ():
            worker.stopping = True
            await worker.kill()
        await self.unstage()
        if self._starting is not None:
            self._starting.cancel()
        tasks = [*self._old.values(), *([self._starting] if self._starting else [])]
        if tasks:
            await asyncio.wait(tasks)
