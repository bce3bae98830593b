"""The listeners that plugins bring now, as the runtime tells them."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import grpc
import structlog

from portway.rpc.errors import PortwayError
from portway.rpc.status import errors_by_meaning
from portway.server.listeners.types import Wanted
from portway.server.runtimes.link import RuntimeLink
from portway.v1 import component_pb2, runtime_pb2, runtime_pb2_grpc

KIND = "EventListener"
MAX_OFFERED = 1_000
USUAL_SECONDS = 30.0
_LIST_SECONDS = 10.0
_RETRY_SECONDS = 2.0


class OfferedListeners:
    """Run `serve` beside the link. Those of a runtime that is away stay known."""

    def __init__(self, link: RuntimeLink) -> None:
        self._link = link
        self._seen = -1
        self._log = structlog.get_logger("portway.host.listeners")
        self.manifests: Mapping[str, component_pb2.ComponentManifest] = {}
        self.wanted: Mapping[str, Wanted] = {}

    async def serve(self) -> None:
        """Never ends by itself."""
        while True:
            if self._link.state.connected and self._link.components_version != self._seen:
                await self._read()
            if self._link.state.connected and self._link.components_version != self._seen:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._link.changed(), _RETRY_SECONDS)
            else:
                await self._link.changed()

    async def _read(self) -> None:
        version = self._link.components_version
        try:
            found = await self._list()
        except PortwayError as error:
            self._log.warning("the listeners of plugins cannot be read", reason=error.message)
            return
        self.manifests = {one.id: one for one in found}
        self.wanted = {one.id: _wanted(one) for one in found}
        self._seen = version

    async def _list(self) -> list[component_pb2.ComponentManifest]:
        stub = runtime_pb2_grpc.RuntimeServiceStub(self._link.channel)
        found: list[component_pb2.ComponentManifest] = []
        token = ""
        with errors_by_meaning():
            while len(found) < MAX_OFFERED:
                request = runtime_pb2.ListComponentsRequest(page_size=200, page_token=token, kind=KIND)
                try:
                    page = await stub.ListComponents(request, timeout=_LIST_SECONDS, metadata=self._link.metadata)
                except grpc.aio.AioRpcError as error:
                    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                        # A runtime of before.
                        return []
                    raise
                found += page.components
                token = page.next_page_token
                if not token:
                    break
        return found[:MAX_OFFERED]


def _wanted(manifest: component_pb2.ComponentManifest) -> Wanted:
    listener = manifest.event_listener
    limits = manifest.limits
    return Wanted(
        event_types=tuple(listener.event_types),
        sources=tuple(listener.sources),
        launcher_types=tuple(listener.launcher_types),
        permissions=tuple(manifest.permissions),
        timeout=limits.timeout.ToMilliseconds() / 1000 if limits.HasField("timeout") else USUAL_SECONDS,
    )
