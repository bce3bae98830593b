"""Keeps the registry's plugin tools those that the runtime has now."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from portway.rpc.errors import Conflict, PortwayError
from portway.server.components.desk import ComponentDesk
from portway.server.runtimes.link import RuntimeLink
from portway.server.tools.plugin import PluginTools, list_tools, specs_of
from portway.server.tools.registry import ToolRegistry
from portway.server.tools.types import Availability, ToolSpec

MAX_TOOLS = 2_000
_LIST_SECONDS = 10.0
_RETRY_SECONDS = 2.0


class PluginToolWatch:
    """Run `serve` beside the link. Tools of a runtime that is away stay listed, with the reason."""

    def __init__(self, link: RuntimeLink, registry: ToolRegistry, desk: ComponentDesk | None = None) -> None:
        self._desk = desk
        self._link = link
        self._registry = registry
        self._seen = 0
        self._known: dict[str, list[ToolSpec]] = {}
        self._log = structlog.get_logger("portway.host.tools")

    async def serve(self) -> None:
        """Never ends by itself."""
        while True:
            if self._link.state.connected and self._link.tools_version != self._seen:
                await self._read()
            if self._link.state.connected and self._link.tools_version != self._seen:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._link.changed(), _RETRY_SECONDS)
            else:
                await self._link.changed()

    def availability(self) -> Availability:
        """Whether plugins can be called now."""
        state = self._link.state
        if state.connected:
            return Availability(True)
        return Availability(False, f"the plugin runtime does not answer: {state.reason}; see `portway status`")

    async def _read(self) -> None:
        version = self._link.tools_version
        try:
            found = specs_of(await list_tools(self._link, _LIST_SECONDS, MAX_TOOLS))
        except PortwayError as error:
            self._log.warning("the tools of plugins cannot be read", reason=error.message)
            return
        self._take(found)
        self._seen = version

    def _take(self, found: dict[str, list[ToolSpec]]) -> None:
        for plugin_id in self._known.keys() - found.keys():
            self._registry.remove(f"plugin:{plugin_id}")
        for plugin_id, specs in found.items():
            if self._known.get(plugin_id) == specs:
                continue
            try:
                self._registry.replace(PluginTools(plugin_id, specs, self._link, self.availability, self._desk))
            except Conflict as error:
                self._log.warning("the tools of a plugin are left out", plugin=plugin_id, reason=error.message)
        self._known = found
