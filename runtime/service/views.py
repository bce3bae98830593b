"""How plugins look to people who ask: what the folder says together with how the process is."""

import os

from portway.runtime.installed.asked import permissions_of
from portway.runtime.installed.folders import InstalledFolders
from portway.runtime.installed.inventory import told_of_disabled
from portway.runtime.installed.store import Records
from portway.runtime.installed.types import Record, Version
from portway.runtime.plugins import wire
from portway.runtime.plugins.types import BrokenPlugin, PluginDefinition, Problem
from portway.runtime.signing.judge import SignatureRules
from portway.runtime.workers.environment import missing_grants
from portway.runtime.workers.log import LogLine
from portway.runtime.workers.supervisor import Supervisor
from portway.v1 import runtime_pb2 as pb

ISOLATION = "crash isolation only"


class PluginViews:
    """Plugins as the wire has them, with what the operator decided about each."""

    def __init__(
        self, supervisor: Supervisor, records: Records, folders: InstalledFolders, rules: SignatureRules
    ) -> None:
        self._supervisor = supervisor
        self._records = records
        self._folders = folders
        self._rules = rules

    def view(self, plugin: PluginDefinition | BrokenPlugin) -> pb.Plugin:
        record = self._records.get(plugin.id)
        if isinstance(plugin, BrokenPlugin):
            view = wire.broken(plugin)
        elif record.disabled:
            view = _disabled_view(plugin, record, self._supervisor)
        else:
            view = _running_view(plugin, self._supervisor)
        view.source = self._source(plugin)
        view.disabled, view.record_generation = record.disabled, record.generation
        if record.installed:
            newest_first = sorted(record.versions, key=lambda one: one.install_time, reverse=True)
            view.versions.extend(version_view(one, record, self._rules) for one in newest_first)
            view.kept_versions.extend(one.version for one in newest_first if one.digest != record.current)
        return view

    def _source(self, plugin: PluginDefinition | BrokenPlugin) -> "pb.PluginSource.ValueType":
        if plugin.bundled:
            return pb.PLUGIN_SOURCE_BUNDLED
        return pb.PLUGIN_SOURCE_INSTALLED if self._folders.owns(plugin.folder) else pb.PLUGIN_SOURCE_FOLDER


def version_view(version: Version, record: Record, rules: SignatureRules) -> pb.PluginVersion:
    view = pb.PluginVersion(
        version=version.version,
        digest=version.digest,
        state=_state_of(version, record),
        signature_state=_signature_state(version, rules),
        key_id=version.signature.key_id if version.signature else "",
        permissions=version.permissions,
        ungranted_permissions=record.ungranted(version),
        byte_count=version.byte_count,
        file_count=version.file_count,
    )
    view.install_time.FromSeconds(version.install_time)
    return view


def _state_of(version: Version, record: Record) -> "pb.PluginVersionState.ValueType":
    if version.digest == record.current:
        return pb.PLUGIN_VERSION_STATE_CURRENT
    return pb.PLUGIN_VERSION_STATE_WAITING if version.digest in record.waiting else pb.PLUGIN_VERSION_STATE_KEPT


def _signature_state(version: Version, rules: SignatureRules) -> "pb.PluginSignatureState.ValueType":
    if version.signature is None:
        return pb.PLUGIN_SIGNATURE_STATE_NONE
    if rules.trusts(version.signature.key_id):
        return pb.PLUGIN_SIGNATURE_STATE_TRUSTED
    return pb.PLUGIN_SIGNATURE_STATE_NO_LONGER_TRUSTED


def _disabled_view(plugin: PluginDefinition, record: Record, supervisor: Supervisor) -> pb.Plugin:
    return pb.Plugin(
        plugin_id=plugin.id,
        version=plugin.version,
        label=wire.localized(plugin.label),
        components=wire.components(plugin),
        state=pb.PLUGIN_STATE_DISABLED,
        reason=told_of_disabled(record),
        run_count=supervisor.run_count(plugin.id),
        isolation=ISOLATION,
        problems=wire.problems(plugin.problems),
        permissions=permissions_of(plugin),
        bundled=plugin.bundled,
    )


def _running_view(plugin: PluginDefinition, supervisor: Supervisor) -> pb.Plugin:
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
        permissions=permissions_of(plugin),
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
