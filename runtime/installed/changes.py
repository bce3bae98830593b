"""Every change of what there is to run goes through here, one after the other: decided, on disk, shown, followed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from portway.rpc.errors import Unavailable
from portway.runtime.installed.store import FileRecords
from portway.runtime.installed.types import Record
from portway.runtime.plugins.catalog import Catalog, Contents
from portway.runtime.plugins.types import PluginDefinition, Problem
from portway.runtime.waiting import to_the_end
from portway.runtime.workers.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class _Kept:
    """Why a running plugin stays as it was."""

    plugin: PluginDefinition
    problem: Problem


class Changes:
    """`records` are only written here."""

    def __init__(self, records: FileRecords, catalog: Catalog, supervisor: Supervisor) -> None:
        self._records = records
        self._catalog = catalog
        self._supervisor = supervisor
        self._turn = asyncio.Lock()
        self._plugins: dict[str, asyncio.Lock] = {}
        self._waiting: Counter[str] = Counter()
        self._log = structlog.get_logger("portway.runtime.plugins")

    @asynccontextmanager
    async def of(self, plugin_id: str) -> AsyncIterator[Record]:
        """One decision about a plugin at a time; others go on meanwhile. The record as it is."""
        lock = self._plugins.setdefault(plugin_id, asyncio.Lock())
        self._waiting[plugin_id] += 1
        try:
            async with lock:
                yield self._records.get(plugin_id)
        finally:
            self._waiting[plugin_id] -= 1
            if not self._waiting[plugin_id]:
                del self._waiting[plugin_id], self._plugins[plugin_id]

    async def note(self, record: Record) -> Record:
        """Keeps a record that changes nothing of what runs."""
        async with self._turn:
            return await to_the_end(asyncio.to_thread(self._records.put, record))

    async def commit(self, record: Record) -> Record:
        """Keeps a record and follows it: from here on new runs get what it says. What was staged for it takes over.
        Goes on where it is cancelled."""
        return await to_the_end(self._commit(record))

    async def _commit(self, record: Record) -> Record:
        async with self._turn:
            kept = await asyncio.to_thread(self._records.put, record)
            await self._follow(record.plugin_id)
            return kept

    async def reload(self) -> None:
        """Looks at the folders again. A running plugin whose change cannot be used goes on as it was."""
        await to_the_end(self._reload())

    async def _reload(self) -> None:
        async with self._turn:
            await self._follow()

    async def _follow(self, staged: str = "") -> None:
        found = await self._catalog.look()
        for plugin in self._changed(found):
            if plugin.id != staged and (kept := await self._try(plugin, found)) is not None:
                found = found.keeping(kept.plugin, kept.problem)
                self._log.error("plugin goes on as it was", plugin=plugin.id, reason=kept.problem.message)
        self._catalog.show(found)
        self._supervisor.apply(found.plugins)

    def _changed(self, found: Contents) -> Sequence[PluginDefinition]:
        """Those that run and are not what they were: as they were."""
        running = [one for one in self._catalog.contents.plugins.values() if self._supervisor.runs(one.id)]
        return [one for one in running if found.plugins.get(one.id) != one and one.id not in found.disabled]

    async def _try(self, before: PluginDefinition, found: Contents) -> _Kept | None:
        """Stages what a plugin is now; why it stays what it was where that does not work."""
        after = found.plugins.get(before.id)
        if after is not None:
            try:
                await self._supervisor.stage(after)
            except Unavailable as error:
                return self._keep(before, f"changed, and cannot be used: {error.message}", "")
            return None
        broken = next((one for one in found.broken.values() if one.folder == before.folder), None)
        if broken is None:
            return None
        first = next(one for one in broken.problems if not one.warning)
        return self._keep(before, first.message, first.location)

    @staticmethod
    def _keep(plugin: PluginDefinition, why: str, location: str) -> _Kept:
        message = f"{why}. The version from before goes on until it is corrected"
        return _Kept(plugin, Problem(plugin.id, location or str(plugin.folder), message))
