"""Every change of what there is to run goes through here, one after the other: decided, on disk, shown, followed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from portway.rpc.errors import Unavailable
from portway.runtime.installed.inventory import Inventory
from portway.runtime.installed.store import FileRecords
from portway.runtime.installed.types import Record
from portway.runtime.plugins.catalog import Catalog, Contents
from portway.runtime.plugins.types import PluginDefinition, Problem
from portway.runtime.waiting import to_the_end
from portway.runtime.workers.supervisor import Prepared, Supervisor


@dataclass(frozen=True, slots=True)
class _Kept:
    """Why a running plugin stays as it was."""

    plugin: PluginDefinition
    problem: Problem


class Changes:
    """`records` are only written here."""

    def __init__(self, records: FileRecords, inventory: Inventory, catalog: Catalog, supervisor: Supervisor) -> None:
        self._records = records
        self._inventory = inventory
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

    async def commit(self, record: Record, prepared: Prepared | None = None) -> Record:
        """Keeps a record and follows it: from here on new runs get what it says. Goes on where it is cancelled."""
        return await to_the_end(self._commit(record, prepared))

    async def _commit(self, record: Record, prepared: Prepared | None) -> Record:
        async with self._turn:
            kept = await asyncio.to_thread(self._records.put, record)
            await self._follow([prepared] if prepared else [])
            return kept

    async def reload(self) -> None:
        """Looks at the folders again. A running plugin whose change cannot be used goes on as it was."""
        await to_the_end(self._reload())

    async def _reload(self) -> None:
        async with self._turn:
            await self._follow([])

    async def _follow(self, prepared: Sequence[Prepared]) -> None:
        found = await self._catalog.look()
        mine = {one.plugin.id for one in prepared}
        outcomes = [await self._try(plugin, found) for plugin in self._changed(found) if plugin.id not in mine]
        for outcome in outcomes:
            if isinstance(outcome, _Kept):
                found = found.keeping(outcome.plugin, outcome.problem)
                self._log.error("plugin goes on as it was", plugin=outcome.plugin.id, reason=outcome.problem.message)
        ready = [*prepared, *(one for one in outcomes if isinstance(one, Prepared))]
        self._catalog.show(found)
        self._supervisor.apply(found.plugins, ready)

    def _changed(self, found: Contents) -> Sequence[PluginDefinition]:
        """Those that run and are not what they were: as they were."""
        running = [one for one in self._catalog.contents.plugins.values() if self._supervisor.runs(one.id)]
        return [one for one in running if found.plugins.get(one.id) != one and one.id not in found.disabled]

    async def _try(self, before: PluginDefinition, found: Contents) -> Prepared | _Kept | None:
        after = found.plugins.get(before.id)
        if after is not None:
            try:
                return await self._supervisor.prepare(after)
            except Unavailable as error:
                return self._keep(before, f"changed, and the change does not start: {error.message}", "")
        broken = next((one for one in found.broken.values() if one.folder == before.folder), None)
        if broken is None:
            return None
        first = next(one for one in broken.problems if not one.warning)
        return self._keep(before, first.message, first.location)

    @staticmethod
    def _keep(plugin: PluginDefinition, why: str, location: str) -> _Kept:
        message = f"{why}. The version from before goes on until it is corrected"
        return _Kept(plugin, Problem(plugin.id, location or str(plugin.folder), message))

    async def start(self) -> None:
        """The first look."""
        await asyncio.to_thread(self._inventory.open)
        self._catalog.show(await self._catalog.look())
        self._supervisor.apply(self._catalog.contents.plugins)
