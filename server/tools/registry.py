"""All tools of this host: each name belongs to one source."""

from __future__ import annotations

import difflib
from collections.abc import AsyncGenerator, Iterable
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


class ToolRegistry:
    """Finds the source of a tool and calls it there. Sources come and go while the host runs."""

    def __init__(self, sources: Iterable[ToolSource] = ()) -> None:
        self._sources: dict[str, ToolSource] = {}
        self._owners: dict[str, str] = {}
        self._specs: dict[str, ToolSpec] = {}
        for source in sources:
            self.register(source)

    def register(self, source: ToolSource) -> None:
        """Adds a source with all of its tools or none. Errors: `Conflict`, naming both sources of a clash."""
        if source.source_id in self._sources:
            raise Conflict(f"the tools of {source.source_id!r} are registered already; remove them first")
        names: dict[str, ToolSpec] = {}
        for spec in source.specs():
            owner = source.source_id if spec.name in names else self._owners.get(spec.name)
            if owner is not None:
                raise Conflict(
                    f"the tool {spec.name!r} of {source.source_id!r} has the name of a tool of {owner!r}; rename one",
                    resource=Resource("tool", spec.name),
                )
            names[spec.name] = spec
        self._sources[source.source_id] = source
        self._specs |= names
        self._owners |= dict.fromkeys(names, source.source_id)

    def remove(self, source_id: str) -> None:
        """Takes a source away; calls under way go on. Removing what is not there is fine."""
        if self._sources.pop(source_id, None) is None:
            return
        for name in [name for name, owner in self._owners.items() if owner == source_id]:
            del self._owners[name], self._specs[name]

    def tools(self) -> tuple[RegisteredTool, ...]:
        """Every tool, by name, also those that cannot be called now."""
        states = {source_id: source.availability() for source_id, source in self._sources.items()}
        return tuple(
            RegisteredTool(self._specs[name], owner, states[owner]) for name, owner in sorted(self._owners.items())
        )

    def get(self, name: str) -> RegisteredTool:
        """One tool. Errors: `NotFound`, with near names."""
        source = self._source(name)
        return RegisteredTool(self._specs[name], source.source_id, source.availability())

    async def call(self, scope: ToolScope, call: ToolCall) -> AsyncGenerator[ToolEvent, None]:
        """Makes the call; read it inside `contextlib.aclosing`. Closing it stops the tool where it can be stopped.

        Errors: `NotFound`, `WrongState` (TOOL_UNAVAILABLE), `InvalidInput` (arguments), and those of the source.
        """
        source = self._available(call.name)
        async with aclosing(source.call(scope, call)) as events:
            async for event in events:
                yield event

    async def reconcile(self, scope: ToolScope, call: ToolCall) -> ToolResult:
        """What an earlier call with this effect id did; it is not made again. `WrongState` EFFECT_UNKNOWN.

        A source that cannot be used now is asked all the same: it is often on its way back.
        """
        return await self._source(call.name).reconcile(scope, call)

    def _available(self, name: str) -> ToolSource:
        source = self._source(name)
        state = source.availability()
        if not state.available:
            raise WrongState(f"the tool {name!r} cannot be used now: {state.reason}", reason=Reason.TOOL_UNAVAILABLE)
        return source

    def _source(self, name: str) -> ToolSource:
        owner = self._owners.get(name)
        if owner is None:
            near = difflib.get_close_matches(name, self._owners, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise NotFound(f"there is no tool {name!r}{hint}", resource=Resource("tool", name))
        return self._sources[owner]
