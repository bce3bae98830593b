"""How plugins and their components look on the wire."""

from collections.abc import Iterator, Sequence

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct, Value

from portway.runtime.plugins.catalog import Contents
from portway.runtime.plugins.types import (
    BrokenPlugin,
    ConfigField,
    InterruptedPolicy,
    Localized,
    Permissions,
    PluginDefinition,
    Problem,
    RunnerDefinition,
    ToolDefinition,
)
from portway.v1 import runner_pb2, runtime_pb2


def localized(texts: Localized) -> runner_pb2.LocalizedText:
    return runner_pb2.LocalizedText(texts=dict(texts))


def problem(one: Problem) -> runtime_pb2.ComponentProblem:
    return runtime_pb2.ComponentProblem(
        plugin=one.plugin, location=one.location, message=one.message, warning=one.warning
    )


def problems(several: Sequence[Problem]) -> list[runtime_pb2.ComponentProblem]:
    return [problem(one) for one in several]


def runner(definition: RunnerDefinition) -> runner_pb2.RunnerManifest:
    policy = definition.on_interrupted
    return runner_pb2.RunnerManifest(
        id=definition.id,
        name=definition.name,
        label=localized(definition.label),
        description=localized(definition.description),
        protocol_version=definition.protocol_version,
        capabilities=runner_pb2.RunnerCapabilities(**{one.value: True for one in definition.capabilities}),
        permissions=permissions(definition.permissions),
        context_policy=runner_pb2.ContextPolicy(**{one.value: True for one in definition.context_policy}),
        config_schema=[_config_field(one) for one in definition.config_schema],
        plugin_version=definition.plugin_version,
        retry_safe=definition.retry_safe,
        on_interrupted=runner_pb2.InterruptedPolicy.Value(
            f"INTERRUPTED_POLICY_{(policy or InterruptedPolicy.UNSPECIFIED).name}"
        ),
        metadata=ParseDict(dict(definition.metadata), Struct()),
    )


def permissions(given: Permissions) -> runner_pb2.RunnerPermissions:
    message = runner_pb2.RunnerPermissions(
        history_scope=runner_pb2.HistoryScope.Value(f"HISTORY_SCOPE_{given.history_scope.name}"),
        platform_actions=given.platform_actions,
    )
    for one in given.granted:
        setattr(message, one.value.replace(".", "_"), True)
    return message


def _config_field(field: ConfigField) -> runner_pb2.ConfigField:
    message = runner_pb2.ConfigField(
        id=field.id,
        name=field.name,
        type=runner_pb2.ConfigFieldType.Value(f"CONFIG_FIELD_TYPE_{field.type.name}"),
        label=localized(field.label),
        description=localized(field.description),
        required=field.required,
        options=[runner_pb2.ConfigOption(value=one.value, label=localized(one.label)) for one in field.options],
    )
    if field.default is not None:
        message.default_value.CopyFrom(ParseDict(field.default, Value()))
    return message


def tool(definition: ToolDefinition) -> runtime_pb2.PluginTool:
    return runtime_pb2.PluginTool(
        name=definition.id,
        description=definition.description,
        parameters=ParseDict(dict(definition.parameters), Struct()),
        idempotency=definition.idempotency,
    )


def components(plugin: PluginDefinition) -> list[runtime_pb2.PluginComponent]:
    runners = [runtime_pb2.PluginComponent(kind="AgentRunner", name=one.name, id=one.id) for one in plugin.runners]
    return runners + [runtime_pb2.PluginComponent(kind="Tool", name=one.name, id=one.id) for one in plugin.tools]


def broken(plugin: BrokenPlugin) -> runtime_pb2.Plugin:
    first = next((one for one in plugin.problems if not one.warning), None)
    return runtime_pb2.Plugin(
        plugin_id=plugin.id,
        version=plugin.version,
        state=runtime_pb2.PLUGIN_STATE_BROKEN,
        reason=f"{first.location}: {first.message}" if first else "",
        problems=problems(plugin.problems),
        bundled=plugin.bundled,
    )


def first(contents: Contents) -> Iterator[runtime_pb2.WatchRunnersResponse]:
    """How a watch begins."""
    yield runtime_pb2.WatchRunnersResponse(
        snapshot=runtime_pb2.RunnersSnapshot(
            runners=[runner(one) for one in contents.runners.values()], problems=problems(contents.problems)
        )
    )
    yield runtime_pb2.WatchRunnersResponse(tools_changed=runtime_pb2.ToolsChanged())


def changes(before: Contents, after: Contents) -> Iterator[runtime_pb2.WatchRunnersResponse]:
    """What happened between two snapshots of one watch."""
    for runner_id in before.runners.keys() - after.runners.keys():
        yield runtime_pb2.WatchRunnersResponse(removed_runner_id=runner_id)
    for runner_id, definition in after.runners.items():
        if runner_id not in before.runners:
            yield runtime_pb2.WatchRunnersResponse(added=runner(definition))
        elif before.runners[runner_id] != definition:
            yield runtime_pb2.WatchRunnersResponse(changed=runner(definition))
    if dict(before.tools) != dict(after.tools):
        yield runtime_pb2.WatchRunnersResponse(tools_changed=runtime_pb2.ToolsChanged())
    known = set(before.problems)
    for one in after.problems:
        if one not in known:
            yield runtime_pb2.WatchRunnersResponse(failed=problem(one))
