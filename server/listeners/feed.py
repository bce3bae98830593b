"""Shows events to the listeners that are behind, each in its own time: a slow or broken one holds up nobody.

Nothing waits in memory: the queue of a listener is the event log, from its cursor on.
"""

import asyncio
import time
from dataclasses import dataclass

import structlog

from portway.rpc.errors import PortwayError
from portway.server.listeners.deliver import PAGE, Away, Deliverer, Failed, failure_text
from portway.server.listeners.offered import OfferedListeners
from portway.server.listeners.store import Listeners, trouble_listener
from portway.server.listeners.types import Listener, Wanted
from portway.server.storage_engine.writer import Writer

AT_ONCE = 16
MAX_BEHIND = 1_000
# A batch that fails is shown in halves; an event that fails so often alone is left out.
TRIES = 5

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds: how often the log is looked at, after a first failure and after many, and while a plugin is away."""

    look: float = 0.25
    first: float = 0.5
    longest: float = 15.0
    away: float = 1.0


@dataclass(slots=True)
class _Trial:
    """How a listener fails now: `most` events are shown to it at once, and `alone` is how often one event failed."""

    until: float = 0.0
    failures: int = 0
    alone: int = 0
    most: int = PAGE


class ListenerFeed:
    """`run` it. One for the host."""

    def __init__(
        self,
        writer: Writer,
        listeners: Listeners,
        offered: OfferedListeners,
        deliverer: Deliverer,
        pauses: Pauses = Pauses(),
    ) -> None:
        self._pauses = pauses
        self._writer = writer
        self._listeners = listeners
        self._offered = offered
        self._deliverer = deliverer
        self._changed = asyncio.Event()
        self._working: dict[_Key, asyncio.Task[None]] = {}
        self._trials: dict[_Key, _Trial] = {}
        self._log = structlog.get_logger("portway.host.listeners")

    async def run(self) -> None:
        """Never ends by itself."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    behind = await self._listeners.behind(MAX_BEHIND)
                except PortwayError as error:
                    self._log.warning("listeners cannot be looked up", reason=error.message)
                    behind = []
                for listener in behind:
                    if len(self._working) >= AT_ONCE:
                        break
                    if listener.key not in self._working and self._may_go_on(listener.key):
                        task = group.create_task(self._bring_forward(listener), name=f"listener {listener.listener_id}")
                        self._working[listener.key] = task
                await self._wait()

    def stop(self, workspace_id: str, listener_id: str) -> None:
        """It was disabled, or begins anew: what it is shown now is broken off, and how it failed is forgotten."""
        key = (workspace_id, listener_id)
        self._trials.pop(key, None)
        if key in self._working:
            self._working[key].cancel()
        self._changed.set()

    async def _wait(self) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(self._pauses.look):
                await self._changed.wait()
        except TimeoutError:
            return

    def _may_go_on(self, key: _Key) -> bool:
        trial = self._trials.get(key)
        return trial is None or trial.until <= time.monotonic()

    async def _bring_forward(self, listener: Listener) -> None:
        """Until it is at the end of the log, fails, or is away."""
        try:
            wanted = self._offered.wanted.get(listener.listener_id)
            if wanted is None:
                raise Away(f"no plugin brings {listener.listener_id}; see `portway plugin list`")
            await self._follow(listener, wanted)
        except Away as away:
            trial = self._trials.setdefault(listener.key, _Trial())
            trial.until = time.monotonic() + self._pauses.away
            await self._tell(listener, str(away))
        except PortwayError as error:
            # The database, not the listener: what it was shown it may be shown again.
            self._log.warning("a listener waits", listener=listener.listener_id, reason=error.message)
        finally:
            del self._working[listener.key]
            self._changed.set()

    async def _follow(self, listener: Listener, wanted: Wanted) -> None:
        current: Listener | None = listener
        while current is not None:
            at, trial = current, self._trials.get(current.key, _Trial())
            batch = await self._deliverer.next_batch(at, wanted, trial.most)
            if batch is None:
                return
            try:
                current = await self._deliverer.deliver(at, wanted, batch)
            except Failed as failed:
                if not await self._failed(at, failed.error, alone=len(batch.shown) == 1):
                    return
                current = await self._deliverer.skip(at, batch, failure_text(failed.error))
            self._succeeded(listener.key)

    def _succeeded(self, key: _Key) -> None:
        """More at once again, step by step: what it failed on may be just ahead."""
        trial = self._trials.get(key)
        if trial is not None:
            trial.until, trial.failures, trial.alone = 0.0, 0, 0
            trial.most *= 2
            if trial.most >= PAGE:
                del self._trials[key]

    async def _failed(self, listener: Listener, error: PortwayError, *, alone: bool) -> bool:
        """Whether what it failed on is given up."""
        trial = self._trials.setdefault(listener.key, _Trial())
        pause = min(self._pauses.longest, self._pauses.first * 2**trial.failures)
        trial.until = time.monotonic() + pause
        trial.failures += 1
        trial.alone += alone
        trial.most = max(1, trial.most // 2)
        self._log.warning(
            "a listener failed",
            listener=listener.listener_id,
            workspace=listener.workspace_id,
            after=listener.sequence,
            failures=trial.failures,
            reason=error.message,
        )
        await self._tell(listener, failure_text(error))
        return trial.alone >= TRIES

    async def _tell(self, listener: Listener, trouble: str) -> None:
        if trouble[:1_000] != listener.trouble:
            await self._writer.run(lambda tx: trouble_listener(tx, listener, trouble))
