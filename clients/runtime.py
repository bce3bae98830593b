"""The plugin runtime as a client sees it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from portway.rpc.channel import ClientTls, open_channel
from portway.rpc.status import errors_by_meaning
from portway.v1 import runtime_pb2, runtime_pb2_grpc

CALL_SECONDS = 30.0
STATUS_SECONDS = 5.0
# Its packages may have to be fetched and installed before it can be tried.
INSTALL_SECONDS = 900.0
_PIECE = 512 * 1024


class Runtime:
    """A connection to one plugin runtime. Use it as `async with Runtime("127.0.0.1:7711", token=…) as runtime`."""

    def __init__(self, address: str, *, token: str, tls: ClientTls | None = None) -> None:
        self._channel = open_channel(address, token=token, tls=tls)
        self.stub = runtime_pb2_grpc.RuntimeServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def status(self) -> runtime_pb2.GetRuntimeStatusResponse:
        """How the runtime is. An error comes soon, so that whoever asks can go on without it."""
        with errors_by_meaning():
            return await self.stub.GetRuntimeStatus(runtime_pb2.GetRuntimeStatusRequest(), timeout=STATUS_SECONDS)

    async def list_plugins(self) -> runtime_pb2.ListPluginsResponse:
        """The first 200 plugins, and the folders that hold no readable one."""
        with errors_by_meaning():
            return await self.stub.ListPlugins(runtime_pb2.ListPluginsRequest(page_size=200), timeout=CALL_SECONDS)

    async def reload_plugins(self) -> runtime_pb2.ReloadPluginsResponse:
        """Has the runtime look through its folders again; what changed gets a new process."""
        with errors_by_meaning():
            return await self.stub.ReloadPlugins(runtime_pb2.ReloadPluginsRequest(), timeout=CALL_SECONDS)

    async def plugin(self, plugin_id: str) -> runtime_pb2.Plugin:
        """One plugin, with its versions. Raises NotFound."""
        with errors_by_meaning():
            request = runtime_pb2.GetPluginRequest(plugin_id=plugin_id)
            return (await self.stub.GetPlugin(request, timeout=CALL_SECONDS)).plugin

    async def install_plugin(
        self, path: Path, start: runtime_pb2.InstallPluginStart
    ) -> runtime_pb2.InstallPluginResponse:
        """Sends a zip; what it is said to be is read from it. Raises as the contract says."""
        start.size, start.digest = await asyncio.to_thread(_size_and_digest, path)
        with errors_by_meaning():
            return await self.stub.InstallPlugin(_frames(path, start), timeout=INSTALL_SECONDS)

    async def plugin_log(
        self, plugin_id: str, *, lines: int, follow: bool
    ) -> AsyncIterator[runtime_pb2.TailPluginLogsResponse]:
        """The last lines that a plugin printed, and with `follow` the new ones until it is left."""
        request = runtime_pb2.TailPluginLogsRequest(plugin_id=plugin_id, lines=lines, once=not follow)
        with errors_by_meaning():
            async for line in self.stub.TailPluginLogs(request):
                yield line

    async def list_runners(self) -> runtime_pb2.ListRunnersResponse:
        """The first 200 runners, and what cannot be used."""
        with errors_by_meaning():
            return await self.stub.ListRunners(runtime_pb2.ListRunnersRequest(page_size=200), timeout=CALL_SECONDS)


def _frames(path: Path, start: runtime_pb2.InstallPluginStart) -> Iterator[runtime_pb2.InstallPluginRequest]:
    yield runtime_pb2.InstallPluginRequest(start=start)
    offset = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield runtime_pb2.InstallPluginRequest(chunk=runtime_pb2.PluginChunk(offset=offset, data=piece))
            offset += len(piece)


def _size_and_digest(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
