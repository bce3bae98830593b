"""The plugins as they were last found, and who waits to hear of changes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from portway.rpc.errors import NotFound, Reason, Unavailable
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
    disabled: Mapping[str, PluginDefinition]
    off: Mapping[str, str]

    @classmethod
    def of(cls, found: Found, off: Mapping[str, str] | None = None) -> "Contents":
        """`off` are plugins that the operator disabled, with what is said to those who ask for them."""
        off = off or {}
        plugins = {plugin.id: plugin for plugin in found.plugins if plugin.id not in off}
        disabled = {plugin.id: plugin for plugin in found.plugins if plugin.id in off}
        own = [problem for plugin in found.plugins for problem in plugin.problems]
        own += [problem for plugin in found.broken for problem in plugin.problems]
        others = [one for plugin in plugins.values() for one in (*plugin.tools, *plugin.others)]
        return cls(
            plugins=plugins,
            broken={plugin.id: plugin for plugin in found.broken if plugin.id not in plugins},
            runners={runner.id: runner for plugin in plugins.values() for runner in plugin.runners},
            tools={tool.id: tool for plugin in plugins.values() for tool in plugin.tools},
            components={component_key(one): one for one in others},
            problems=(*found.problems, *own),
            folder_problems=found.problems,
            disabled=disabled,
            off=off,
        )

    def keeping(self, plugin: PluginDefinition, problem: Problem) -> "Contents":
        """With a plugin as it was before, because its change cannot be used."""
        others = [one for one in (*self.plugins.values(), *self.disabled.values()) if one.id != plugin.id]
        broken = [one for one in self.broken.values() if one.folder != plugin.folder]
        found = Found((*others, plugin), broken, (*self.folder_problems, problem))
        return Contents.of(found, self.off)


class Catalog:
    """Owns the current contents. `find` looks through the folders; it blocks, so it runs in a thread."""

    def __init__(self, find: Callable[[], Contents]) -> None:
        self._find = find
        self._changed = asyncio.Event()
        self.contents = Contents.of(Found())

    async def look(self) -> Contents:
        """What the folders hold now."""
        return await asyncio.to_thread(self._find)

    def show(self, contents: Contents) -> None:
        """Makes it what there is, and tells the watchers."""
        self.contents = contents
        self._changed.set()
        self._changed = asyncio.Event()

    def plugin(self, plugin_id: str) -> PluginDefinition:
        """Raises `NotFound`, also for a plugin that cannot be used."""
        if plugin_id not in self.contents.plugins:
            raise NotFound.of("plugin", plugin_id)
        return self.contents.plugins[plugin_id]

    def plugin_of_runner(self, runner_id: str) -> PluginDefinition:
        """The plugin that brings a runner. Raises `NotFound`, and `Unavailable` where it is disabled."""
        if runner_id not in self.contents.runners:
            self._refuse_disabled("runner", runner_id)
            raise NotFound.of("runner", runner_id)
        return self.contents.plugins[runner_id.removeprefix("plugin:").rpartition("/")[0]]

    def plugin_of_tool(self, tool_id: str) -> PluginDefinition:
        """The plugin that brings a tool. Raises as `plugin_of_runner`."""
        if tool_id not in self.contents.tools:
            self._refuse_disabled("tool", tool_id)
            raise NotFound.of("tool", tool_id)
        return self.contents.plugins[tool_id.rpartition("/")[0]]

    def component(self, kind: str, component_id: str) -> ComponentDefinition:
        """A component that is no runner. Raises as `plugin_of_runner`."""
        found = self.contents.components.get(f"{kind}:{component_id}")
        if found is None:
            self._refuse_disabled(kind, component_id)
            raise NotFound.of(kind, component_id)
        return found

    def _refuse_disabled(self, kind: str, component_id: str) -> None:
        reason = self.contents.off.get(component_id.removeprefix("plugin:").rpartition("/")[0])
        if reason is not None:
            raise Unavailable(f"the {kind} {component_id} cannot be used: {reason}", reason=Reason.RUNNER_UNAVAILABLE)

    async def watch(self, stop: asyncio.Event) -> AsyncIterator[Contents]:
        """The contents now, then after each reload until `stop`; a slow watcher sees only the latest."""
        while not stop.is_set():
            changed = self._changed
            yield self.contents
            await either(changed, stop)


def component_key(component: ComponentDefinition) -> str:
    """What tells a component from all others: two of different kinds may have the same id."""
    return f"{kind_of(component)}:{component.id}"
