"""`RuntimeService` on the wire."""

from datetime import datetime
from typing import Never

from portway.rpc.call import Call
from portway.runtime.installed.build import Managed
from portway.runtime.kept.folders import PluginFolders
from portway.runtime.plugins import wire
from portway.runtime.plugins.catalog import Catalog
from portway.runtime.plugins.types import kind_of
from portway.runtime.relay.call_tool import ToolRelay
from portway.runtime.relay.run_agent import RunRelay
from portway.runtime.relay.run_component import ComponentRelay
from portway.runtime.relay.turns import Turns
from portway.runtime.runs.active import ActiveRuns
from portway.runtime.service.managing import PluginMethods
from portway.runtime.service.pages import Pages
from portway.runtime.service.plugins import Plugins
from portway.runtime.service.uploads import Uploads
from portway.runtime.service.views import PluginViews, log_view
from portway.runtime.workers.supervisor import Supervisor
from portway.v1 import runtime_pb2 as pb

DEFAULT_LINES = 100

Once = Call[Never, Never]


class RuntimeServicer(PluginMethods):
    def __init__(
        self,
        catalog: Catalog,
        supervisor: Supervisor,
        runs: ActiveRuns,
        folders: PluginFolders,
        pages: Pages,
        managed: Managed,
        uploads: Uploads,
        version: str,
        start_time: datetime,
    ) -> None:
        plugins = Plugins(catalog, supervisor, managed.changes)
        stored = managed.stored
        views = PluginViews(supervisor, stored.records, stored.folders, stored.signatures)
        super().__init__(plugins, views, uploads, managed.keeping, managed.decisions)
        self._catalog = catalog
        self._supervisor = supervisor
        self._runs = runs
        self._pages = pages
        self._run_relay = RunRelay(catalog, supervisor, runs)
        turns = Turns()
        self._tool_relay = ToolRelay(catalog, supervisor, runs, turns)
        self._component_relay = ComponentRelay(catalog, supervisor, runs, turns, folders)
        self._version = version
        self._start_time = start_time

    async def ListRunners(self, request: pb.ListRunnersRequest, call: Once) -> pb.ListRunnersResponse:
        contents = self._catalog.contents
        page, token = self._pages.take("runners", contents.runners, request.page_size, request.page_token)
        return pb.ListRunnersResponse(
            runners=[wire.runner(one) for one in page],
            next_page_token=token,
            problems=wire.problems(contents.problems),
        )

    async def WatchRunners(self, request: pb.WatchRunnersRequest, call: Call[None, pb.WatchRunnersResponse]) -> None:
        before = None
        async for contents in self._catalog.watch(call.draining):
            for event in wire.changes(before, contents) if before else wire.first(contents):
                await call.write(event)
            before = contents

    async def RunAgent(self, call: Call[bytes, bytes]) -> None:
        await self._run_relay.relay(call)

    async def ListTools(
        self, request: pb.RuntimeServiceListToolsRequest, call: Once
    ) -> pb.RuntimeServiceListToolsResponse:
        tools = self._catalog.contents.tools
        page, token = self._pages.take("tools", tools, request.page_size, request.page_token)
        return pb.RuntimeServiceListToolsResponse(tools=[wire.tool(one) for one in page], next_page_token=token)

    async def CallTool(
        self, request: pb.RuntimeServiceCallToolRequest, call: Call[None, pb.RuntimeServiceCallToolResponse]
    ) -> None:
        await self._tool_relay.relay(request, call)

    async def ListComponents(self, request: pb.ListComponentsRequest, call: Once) -> pb.ListComponentsResponse:
        every = self._catalog.contents.components
        wanted = {key: one for key, one in every.items() if request.kind in ("", kind_of(one))}
        page, token = self._pages.take(f"components/{request.kind}", wanted, request.page_size, request.page_token)
        return pb.ListComponentsResponse(components=[wire.component(one) for one in page], next_page_token=token)

    async def RunComponent(self, call: Call[bytes, bytes]) -> None:
        await self._component_relay.relay(call)

    async def ListPlugins(self, request: pb.ListPluginsRequest, call: Once) -> pb.ListPluginsResponse:
        page, token = self._pages.take("plugins", self._plugins.all(), request.page_size, request.page_token)
        return pb.ListPluginsResponse(
            plugins=[self._views.view(one) for one in page],
            next_page_token=token,
            problems=wire.problems(self._catalog.contents.folder_problems),
        )

    async def GetPlugin(self, request: pb.GetPluginRequest, call: Once) -> pb.GetPluginResponse:
        return pb.GetPluginResponse(plugin=self._view(request.plugin_id))

    async def ReloadPlugins(self, request: pb.ReloadPluginsRequest, call: Once) -> pb.ReloadPluginsResponse:
        plugins = await self._plugins.reload(request.plugin_ids)
        return pb.ReloadPluginsResponse(
            plugins=[self._views.view(one) for one in plugins],
            problems=wire.problems(self._catalog.contents.problems),
        )

    async def TailPluginLogs(
        self, request: pb.TailPluginLogsRequest, call: Call[None, pb.TailPluginLogsResponse]
    ) -> None:
        log, count = self._plugins.log(request.plugin_id), request.lines or DEFAULT_LINES
        if request.once:
            for line in log.last(count):
                await call.write(log_view(line))
            return
        async for line in log.follow(count, call.draining):
            await call.write(log_view(line))

    async def RecyclePlugin(self, request: pb.RecyclePluginRequest, call: Once) -> pb.RecyclePluginResponse:
        plugin = self._plugins.recycle(request.plugin_id, request.generation)
        return pb.RecyclePluginResponse(plugin=self._views.view(plugin))

    async def GetRuntimeStatus(self, request: pb.GetRuntimeStatusRequest, call: Once) -> pb.GetRuntimeStatusResponse:
        contents = self._catalog.contents
        status = pb.GetRuntimeStatusResponse(
            version=self._version,
            plugin_count=len(contents.plugins),
            broken_count=len(contents.broken),
            run_count=self._runs.count,
            draining=call.draining.is_set(),
            host_epoch=self._runs.epoch,
            unenforced_limits=self._supervisor.unenforced,
        )
        status.start_time.FromDatetime(self._start_time)
        return status
