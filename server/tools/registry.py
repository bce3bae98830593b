"""All tools of this host: each name belongs to one source."""

from __future__ import annotations

import difflib
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from portway.rpc.errors import Conflict, NotFound, Reason, Resource, WrongState
from portway.server.tools.types import Availability, ToolCall, ToolEvent, ToolResult, ToolScope, ToolSpec


class ToolSource(Protocol):
    """Where tools come from: the native ones, a plugin, an MCP server, the skills."""

    @property
    def source_id(self) -> str:
        """Names the source in errors, such as `native` or `plugin:author/name`."""

    def specs(self) -> tuple[ToolSpec, ...]:
        """Its tools; the same ones as long as it is registered."""

    def availability(self) -> Availability:
        """Whether they can be called now."""

    def call(self, scope: ToolScope, call: ToolCall) -> AsyncGenerator[ToolEvent, None]:
        """Makes the call; `ToolResult` is the last event. A raised error means that there is no result."""

    async def reconcile(self, scope: ToolScope, call: ToolCall) -> ToolResult:
        """The result of an earlier call that was not recorded. `WrongState` EFFECT_UNKNOWN where nobody knows."""


@dataclass(frozen=True, slots=True)
class RegisteredTool:
    """A tool, where it comes from, and whether it can be called now."""

    spec: ToolSpec
    source_id: str
    availability: Availability


@dataclass(frozen=True, slots=True)
class _Owned:
    spec: ToolSpec
    source: ToolSource


class ToolRegistry:
    """Finds the source of a tool and calls it there. Sources come and go while the host runs.

    A source belongs to one workspace, or to all of them (workspace ''). A name is one tool wherever it is seen.
    """

    def __init__(self, sources: Iterable[ToolSource] = ()) -> None:
        self._sources: dict[tuple[str, str], ToolSource] = {}
        self._tools: dict[str, dict[str, _Owned]] = {"": {}}
        for source in sources:
            self.register(source)

    def register(self, source: ToolSource, workspace_id: str = "") -> None:
        """Adds a source with all of its tools or none. Errors: `Conflict`, naming both sources of a clash."""
        if (workspace_id, source.source_id) in self._sources:
            raise Conflict(f"the tools of {source.source_id!r} are registered already; remove them first")
        self._add(source, workspace_id)

    def replace(self, source: ToolSource, workspace_id: str = "") -> None:
        """Puts a source in the place of the one with its id, if there is one. Errors as `register`; then nothing has
        changed."""
        before = self._sources.get((workspace_id, source.source_id))
        self._add(source, workspace_id, before)

    def remove(self, source_id: str, workspace_id: str = "") -> None:
        """Takes a source away; calls under way go on. Removing what is not there is fine."""
        source = self._sources.pop((workspace_id, source_id), None)
        if source is None:
            return
        self._tools[workspace_id] = _without(self._tools[workspace_id], source)
        if workspace_id and not self._tools[workspace_id]:
            del self._tools[workspace_id]

    def tools(self, workspace_id: str = "") -> tuple[RegisteredTool, ...]:
        """Every tool that the workspace sees, by name, also those that cannot be called now."""
        found = {**self._tools[""], **(self._tools.get(workspace_id) or {})}
        states: dict[int, Availability] = {}
        for owned in found.values():
            if id(owned.source) not in states:
                states[id(owned.source)] = owned.source.availability()
        return tuple(
            RegisteredTool(one.spec, one.source.source_id, _usable(one.spec, states[id(one.source)]))
            for _, one in sorted(found.items())
        )

    def get(self, name: str, workspace_id: str = "") -> RegisteredTool:
        """One tool. Errors: `NotFound`, with near names."""
        owned = self._owned(name, workspace_id)
        return RegisteredTool(owned.spec, owned.source.source_id, _usable(owned.spec, owned.source.availability()))

    async def call(self, scope: ToolScope, call: ToolCall) -> AsyncGenerator[ToolEvent, None]:
        """Makes the call; read it inside `contextlib.aclosing`. Closing it stops the tool where it can be stopped.

        Errors: `NotFound`, `WrongState` (TOOL_UNAVAILABLE), `InvalidInput` (arguments), and those of the source.
        """
        source = self._available(call.name, scope.workspace_id)
        async with aclosing(source.call(scope, call)) as events:
            async for event in events:
                yield event

    async def reconcile(self, scope: ToolScope, call: ToolCall) -> ToolResult:
        """What an earlier call with this effect id did; it is not made again. `WrongState` EFFECT_UNKNOWN.

        A source that cannot be used now is asked all the same: it is often on its way back.
        """
        return await self._owned(call.name, scope.workspace_id).source.reconcile(scope, call)

    def _add(self, source: ToolSource, workspace_id: str, before: ToolSource | None = None) -> None:
        own = self._tools.get(workspace_id, {})
        if before is not None:
            own = _without(own, before)
        # What every workspace sees must be unique in each of them.
        others = [self._tools[""]] if workspace_id else [names for other, names in self._tools.items() if other]
        added: dict[str, _Owned] = {}
        for spec in source.specs():
            known = next((names[spec.name] for names in (added, own, *others) if spec.name in names), None)
            if known is not None:
                raise Conflict(
                    f"the tool {spec.name!r} of {source.source_id!r} has the name of a tool of "
                    f"{known.source.source_id!r}; rename one",
                    resource=Resource("tool", spec.name),
                )
            added[spec.name] = _Owned(spec, source)
        self._sources[(workspace_id, source.source_id)] = source
        self._tools[workspace_id] = {**own, **added}

    def _available(self, name: str, workspace_id: str) -> ToolSource:
        owned = self._owned(name, workspace_id)
        source, state = owned.source, _usable(owned.spec, owned.source.availability())
        if not state.available:
            raise WrongState(f"the tool {name!r} cannot be used now: {state.reason}", reason=Reason.TOOL_UNAVAILABLE)
        return source

    def _owned(self, name: str, workspace_id: str) -> _Owned:
        own = self._tools.get(workspace_id) or {}
        found = own.get(name) or self._tools[""].get(name)
        if found is None:
            near = difflib.get_close_matches(name, [*self._tools[""], *own], n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise NotFound(f"there is no tool {name!r}{hint}", resource=Resource("tool", name))
        return found


def _usable(spec: ToolSpec, state: Availability) -> Availability:
    return Availability(False, spec.unusable, absent=True) if spec.unusable else state


def _without(names: Mapping[str, _Owned], source: ToolSource) -> dict[str, _Owned]:
    return {name: owned for name, owned in names.items() if owned.source is not source}
