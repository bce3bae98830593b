"""How plugins look to people who ask: what the folder says together with how the process is."""

import os

from portway.runtime.plugins import wire
from portway.runtime.plugins.types import BrokenPlugin, PluginDefinition, Problem
from portway.runtime.workers.environment import missing_grants
from portway.runtime.workers.log import LogLine
from portway.runtime.workers.supervisor import Supervisor
from portway.v1 import runtime_pb2 as pb

ISOLATION = "crash isolation only"


def plugin_view(plugin: PluginDefinition | BrokenPlugin, supervisor: Supervisor) -> pb.Plugin:
    if isinstance(plugin, BrokenPlugin):
        return wire.broken(plugin)
    status = supervisor.keeper(plugin.id).status()
    view = pb.Plugin(
        plugin_id=plugin.id,
        version=plugin.version,
        label=wire.localized(plugin.label),
        components=wire.components(plugin),
        state=pb.PluginState.Value(f"PLUGIN_STATE_{status.state}"),
        reason=status.reason,
        pid=status.pid,
        generation=status.generation,
        restart_count=status.restart_count,
        run_count=status.run_count,
        isolation=ISOLATION,
        problems=wire.problems([*plugin.problems, *_ungranted(plugin, supervisor)]),
        bundled=plugin.bundled,
    )
    if status.start_time is not None:
        view.start_time.FromDatetime(status.start_time)
    return view


def _ungranted(plugin: PluginDefinition, supervisor: Supervisor) -> list[Problem]:
    message = "is asked for and not given; set it for the runtime and name it under runtime.grants in the configuration"
    missing = missing_grants(plugin, os.environ, supervisor.granted(plugin.id))
    return [Problem(plugin.id, f"manifest.yaml: environment.{name}", message, warning=True) for name in missing]


def log_view(line: LogLine) -> pb.TailPluginLogsResponse:
    view = pb.TailPluginLogsResponse(stream=line.stream, line=line.text, dropped_count=line.dropped, run_id=line.run_id)
    view.time.FromDatetime(line.time)
    return view
