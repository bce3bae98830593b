"""How plugins and their components look on the wire."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct, Value

from portway.runtime.plugins.catalog import Contents
from portway.runtime.plugins.types import (
    BrokenPlugin,
    CallLimits,
    ComponentDefinition,
    ConfigField,
    EngineDefinition,
    InterruptedPolicy,
    ListenerDefinition,
    Localized,
    ParserDefinition,
    Permissions,
    PluginDefinition,
    Problem,
    RunnerDefinition,
    ToolDefinition,
    kind_of,
)
from portway.v1 import component_pb2, runner_pb2, runtime_pb2


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
        description=definition.description.get("en") or next(iter(definition.description.values()), ""),
        parameters=_struct(definition.parameters),
        idempotency=definition.idempotency,
        label=localized(definition.label),
        descriptions=localized(definition.description),
        plugin_version=definition.plugin_version,
        permissions=sorted(definition.permissions),
        limits=_limits(definition.limits),
    )


def component(definition: ComponentDefinition) -> component_pb2.ComponentManifest:
    message = component_pb2.ComponentManifest(
        id=definition.id,
        kind=kind_of(definition),
        name=definition.name,
        label=localized(definition.label),
        description=localized(definition.description),
        plugin_version=definition.plugin_version,
        permissions=sorted(definition.permissions),
        limits=_limits(definition.limits),
    )
    match definition:
        case EngineDefinition():
            message.knowledge_engine.MergeFrom(
                component_pb2.KnowledgeEngineManifest(
                    capabilities=definition.capabilities,
                    creation_schema=_struct(definition.creation_schema),
                    retrieval_schema=_struct(definition.retrieval_schema),
                    media_types=definition.media_types,
                )
            )
        case ParserDefinition():
            message.parser.media_types.extend(definition.media_types)
            message.parser.extensions.extend(definition.extensions)
        case ListenerDefinition():
            message.event_listener.event_types.extend(definition.event_types)
            message.event_listener.sources.extend(definition.sources)
            message.event_listener.launcher_types.extend(definition.launcher_types)
    return message


def _limits(limits: CallLimits) -> component_pb2.ComponentLimits:
    message = component_pb2.ComponentLimits(
        concurrency=limits.concurrency, input_bytes=limits.input_bytes, output_bytes=limits.output_bytes
    )
    if limits.timeout is not None:
        message.timeout.FromMilliseconds(round(limits.timeout * 1000))
    return message


def _struct(content: Mapping[str, Any]) -> Struct:
    return ParseDict(dict(content), Struct())


def components(plugin: PluginDefinition) -> list[runtime_pb2.PluginComponent]:
    every = (*plugin.runners, *plugin.tools, *plugin.others)
    return [runtime_pb2.PluginComponent(kind=kind_of(one), name=one.name, id=one.id) for one in every]


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


def _withheld_runners(contents: Contents) -> dict[str, str]:
    return {one.id: contents.off[plugin.id] for plugin in contents.disabled.values() for one in plugin.runners}


def _withheld(runner_id: str, reason: str) -> runtime_pb2.WithheldRunner:
    return runtime_pb2.WithheldRunner(runner_id=runner_id, reason=reason)


def first(contents: Contents) -> Iterator[runtime_pb2.WatchRunnersResponse]:
    """How a watch begins."""
    yield runtime_pb2.WatchRunnersResponse(
        snapshot=runtime_pb2.RunnersSnapshot(
            runners=[runner(one) for one in contents.runners.values()],
            problems=problems(contents.problems),
            withheld=[_withheld(*one) for one in _withheld_runners(contents).items()],
        )
    )
    yield runtime_pb2.WatchRunnersResponse(tools_changed=runtime_pb2.ToolsChanged())
    yield runtime_pb2.WatchRunnersResponse(components_changed=runtime_pb2.ComponentsChanged())


def changes(before: Contents, after: Contents) -> Iterator[runtime_pb2.WatchRunnersResponse]:
    """What happened between two snapshots of one watch."""
    yield from _changed_runners(before, after)
    if dict(before.tools) != dict(after.tools):
        yield runtime_pb2.WatchRunnersResponse(tools_changed=runtime_pb2.ToolsChanged())
    if dict(before.components) != dict(after.components):
        yield runtime_pb2.WatchRunnersResponse(components_changed=runtime_pb2.ComponentsChanged())
    known = set(before.problems)
    for one in after.problems:
        if one not in known:
            yield runtime_pb2.WatchRunnersResponse(failed=problem(one))


def _changed_runners(before: Contents, after: Contents) -> Iterator[runtime_pb2.WatchRunnersResponse]:
    for runner_id in before.runners.keys() - after.runners.keys():
        yield runtime_pb2.WatchRunnersResponse(removed_runner_id=runner_id)
    for runner_id, definition in after.runners.items():
        if runner_id not in before.runners:
            yield runtime_pb2.WatchRunnersResponse(added=runner(definition))
        elif before.runners[runner_id] != definition:
            yield runtime_pb2.WatchRunnersResponse(changed=runner(definition))
    known, withheld = _withheld_runners(before), _withheld_runners(after)
    for runner_id in known.keys() - withheld.keys() - after.runners.keys():
        yield runtime_pb2.WatchRunnersResponse(removed_runner_id=runner_id)
    for runner_id, reason in withheld.items():
        if known.get(runner_id) != reason:
            yield runtime_pb2.WatchRunnersResponse(withheld=_withheld(runner_id, reason))
