"""The plugins as they were last found, and who waits to hear of changes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from portway.rpc.errors import NotFound
from portway.runtime.plugins.discover import Found
from portway.runtime.plugins.types import (
    BrokenPlugin,
    ComponentDefinition,
    PluginDefinition,
    Problem,
    RunnerDefinition,
    ToolDefinition,
    kind_of,
)
from portway.runtime.waiting import either


@dataclass(frozen=True, slots=True)
class Contents:
    """Everything that was found at one time, by id."""

    plugins: Mapping[str, PluginDefinition]
    broken: Mapping[str, BrokenPlugin]
    runners: Mapping[str, RunnerDefinition]
    tools: Mapping[str, ToolDefinition]
    components: Mapping[str, ComponentDefinition]
    problems: Sequence[Problem]
    folder_problems: Sequence[Problem]

    @classmethod
    def of(cls, found: Found) -> "Contents":
        plugins = {plugin.id: plugin for plugin in found.plugins}
        own = [problem for plugin in found.plugins for problem in plugin.problems]
        own += [problem for plugin in found.broken for problem in plugin.problems]
        return cls(
            plugins=plugins,
            broken={plugin.id: plugin for plugin in found.broken if plugin.id not in plugins},
            runners={runner.id: runner for plugin in found.plugins for runner in plugin.runners},
            tools={tool.id: tool for plugin in found.plugins for tool in plugin.tools},
            components={component_key(one): one for plugin in found.plugins for one in (*plugin.tools, *plugin.others)},
            problems=(*found.problems, *own),
            folder_problems=found.problems,
        )


class Catalog:
    """Owns the current contents. `find` looks through the folders; it blocks, so it runs in a thread."""

    def __init__(self, find: Callable[[], Found]) -> None:
        self._find = find
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self.contents = Contents.of(Found())

    async def reload(self) -> Contents:
        """Looks through the folders again and tells the watchers. Returns what there was before."""
        async with self._lock:
            before = self.contents
            self.contents = Contents.of(await asyncio.to_thread(self._find))
            self._changed.set()
            self._changed = asyncio.Event()
            return before

    def plugin(self, plugin_id: str) -> PluginDefinition:
        """Raises `NotFound`, also for a plugin that cannot be used."""
        if plugin_id not in self.contents.plugins:
            raise NotFound.of("plugin", plugin_id)
        return self.contents.plugins[plugin_id]

    def plugin_of_runner(self, runner_id: str) -> PluginDefinition:
        """The plugin that brings a runner. Raises `NotFound`."""
        if runner_id not in self.contents.runners:
            raise NotFound.of("runner", runner_id)
        return self.contents.plugins[runner_id.removeprefix("plugin:").rpartition("/")[0]]

    def plugin_of_tool(self, tool_id: str) -> PluginDefinition:
        """The plugin that brings a tool. Raises `NotFound`."""
        if tool_id not in self.contents.tools:
            raise NotFound.of("tool", tool_id)
        return self.contents.plugins[tool_id.rpartition("/")[0]]

    def component(self, kind: str, component_id: str) -> ComponentDefinition:
        """A component that is no runner. Raises `NotFound`."""
        found = self.contents.components.get(f"{kind}:{component_id}")
        if found is None:
            raise NotFound.of(kind, component_id)
        return found

    async def watch(self, stop: asyncio.Event) -> AsyncIterator[Contents]:
        """The contents now, then after each reload until `stop`; a slow watcher sees only the latest."""
        while not stop.is_set():
            changed = self._changed
            yield self.contents
            await either(changed, stop)


def component_key(component: ComponentDefinition) -> str:
    """What tells a component from all others: two of different kinds may have the same id."""
    return f"{kind_of(component)}:{component.id}"
