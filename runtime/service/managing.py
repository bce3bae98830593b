"""The half of `RuntimeService` that changes what there is to run."""

from collections.abc import Iterator
from typing import Never

from portway.rpc.call import Call
from portway.runtime.installed.decisions import Decisions
from portway.runtime.installed.manage import PluginKeeping
from portway.runtime.installed.versions import Outcome
from portway.runtime.service.plugins import Plugins
from portway.runtime.service.uploads import Upload, Uploads
from portway.runtime.service.views import PluginViews
from portway.runtime.waiting import to_the_end
from portway.v1 import runtime_pb2 as pb

Once = Call[Never, Never]


class PluginMethods:
    """Translates."""

    def __init__(
        self,
        plugins: Plugins,
        views: PluginViews,
        uploads: Uploads,
        keeping: PluginKeeping,
        decisions: Decisions,
    ) -> None:
        self._plugins = plugins
        self._views = views
        self._uploads = uploads
        self._keeping = keeping
        self._decisions = decisions

    async def InstallPlugin(self, call: Upload) -> pb.InstallPluginResponse:
        with self._decisions.on("install", call.caller) as said:
            outcome = await self._uploads.install(call)
            said |= _told(outcome)
        return pb.InstallPluginResponse(
            plugin=self._view(outcome.plugin_id),
            replaced_version=outcome.replaced,
            unchanged=outcome.unchanged,
            config_changes=_changes(outcome),
        )

    async def GrantPlugin(self, request: pb.GrantPluginRequest, call: Once) -> pb.GrantPluginResponse:
        with self._decisions.on("grant", call.caller, request.plugin_id) as said:
            outcome = await to_the_end(self._keeping.grant(request.plugin_id, request.version))
            said |= _told(outcome)
        return pb.GrantPluginResponse(
            plugin=self._view(request.plugin_id),
            replaced_version=outcome.replaced,
            config_changes=_changes(outcome),
        )

    async def EnablePlugin(self, request: pb.EnablePluginRequest, call: Once) -> pb.EnablePluginResponse:
        with self._decisions.on("enable", call.caller, request.plugin_id) as said:
            said["changed"] = await to_the_end(self._keeping.enable(request.plugin_id))
        return pb.EnablePluginResponse(plugin=self._view(request.plugin_id))

    async def DisablePlugin(self, request: pb.DisablePluginRequest, call: Once) -> pb.DisablePluginResponse:
        with self._decisions.on("disable", call.caller, request.plugin_id) as said:
            said["changed"] = await to_the_end(self._keeping.disable(request.plugin_id, request.reason))
        return pb.DisablePluginResponse(plugin=self._view(request.plugin_id))

    async def RollbackPlugin(self, request: pb.RollbackPluginRequest, call: Once) -> pb.RollbackPluginResponse:
        with self._decisions.on("rollback", call.caller, request.plugin_id) as said:
            work = self._keeping.rollback(request.plugin_id, request.version, request.request_id)
            outcome = await to_the_end(work)
            said |= _told(outcome)
        return pb.RollbackPluginResponse(
            plugin=self._view(request.plugin_id),
            replaced_version=outcome.replaced,
            config_changes=_changes(outcome),
        )

    async def RemovePlugin(self, request: pb.RemovePluginRequest, call: Once) -> pb.RemovePluginResponse:
        with self._decisions.on("remove", call.caller, request.plugin_id) as said:
            said["force"] = request.force
            work = self._keeping.remove(
                request.plugin_id,
                force=request.force,
                delete_data=request.delete_data,
                request_id=request.request_id,
            )
            await to_the_end(work)
        return pb.RemovePluginResponse()

    def _view(self, plugin_id: str) -> pb.Plugin:
        return self._views.view(self._plugins.get(plugin_id))


def _told(outcome: Outcome) -> dict[str, object]:
    return {"plugin": outcome.plugin_id, "replaced": outcome.replaced, "unchanged": outcome.unchanged}


def _changes(outcome: Outcome) -> Iterator[pb.ConfigChange]:
    for one in outcome.config_changes:
        yield pb.ConfigChange(runner_id=one.runner_id, field=one.field, message=one.message)
