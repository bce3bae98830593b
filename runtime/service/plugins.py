"""Plugins together with their processes: what is there, how it is, and how it is looked at again."""

from collections.abc import Mapping, Sequence

from portway.rpc.errors import NotFound
from portway.runtime.installed.changes import Changes
from portway.runtime.plugins.catalog import Catalog
from portway.runtime.plugins.types import BrokenPlugin, PluginDefinition
from portway.runtime.workers.log import PluginLog
from portway.runtime.workers.supervisor import Supervisor

AnyPlugin = PluginDefinition | BrokenPlugin


class Plugins:
    def __init__(self, catalog: Catalog, supervisor: Supervisor, changes: Changes) -> None:
        self._catalog = catalog
        self._supervisor = supervisor
        self._changes = changes

    def all(self) -> Mapping[str, AnyPlugin]:
        """By id, also those that are broken or disabled."""
        contents = self._catalog.contents
        return {**contents.broken, **contents.disabled, **contents.plugins}

    def get(self, plugin_id: str) -> AnyPlugin:
        found = self.all().get(plugin_id)
        if found is None:
            raise NotFound.of("plugin", plugin_id)
        return found

    async def reload(self, plugin_ids: Sequence[str]) -> list[AnyPlugin]:
        """Looks through the folders again; what changed gets a new process. Answers the named plugins, or all."""
        await self._changes.reload()
        return [self.get(one) for one in plugin_ids or sorted(self.all())]

    def recycle(self, plugin_id: str, generation: int) -> PluginDefinition:
        plugin = self._catalog.plugin(plugin_id)
        self._supervisor.keeper(plugin_id).recycle(generation)
        return plugin

    def log(self, plugin_id: str) -> PluginLog:
        return self._supervisor.log(self.get(plugin_id).id)
