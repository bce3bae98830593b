"""Component manifests: what a plugin brings, one YAML file each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from portway.runtime.plugins.component_kinds import read_kind
from portway.runtime.plugins.config_schema import read_config_schema
from portway.runtime.plugins.fields import Fields, Notes, suggestion
from portway.runtime.plugins.permissions import read_permissions
from portway.runtime.plugins.types import (
    PROTOCOL_VERSION,
    Capability,
    Command,
    ComponentDefinition,
    ComponentKind,
    ContextFeature,
    Execution,
    InterruptedPolicy,
    Problem,
    RunnerDefinition,
)
from portway.runtime.plugins.yaml_file import UnreadableFile, read_yaml

_NAME = r"[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?"
_CODE = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"

Component = RunnerDefinition | ComponentDefinition


@dataclass(frozen=True, slots=True)
class Owner:
    """The plugin that a component belongs to."""

    id: str
    version: str
    execution: Execution


def read_component(file: Path, name: str, owner: Owner) -> tuple[Component | None, Sequence[Problem]]:
    """The component that `file` describes, None where it cannot be used, and what is wrong. Messages call it `name`."""
    notes = Notes(owner.id)
    try:
        fields = Fields(name, read_yaml(file), notes)
    except UnreadableFile as error:
        notes.error(name, str(error))
        return None, notes.problems()
    kind = fields.text("kind", required=True)
    component: Component | None = None
    if kind == ComponentKind.RUNNER:
        component = _read_runner(fields, owner)
    elif kind in set(ComponentKind):
        code = _read_code(fields, owner)
        component = read_kind(fields, ComponentKind(kind), _read_name(fields), code, owner.id, owner.version)
    elif kind:
        fields.error("kind", f"{kind!r} is no kind of component{suggestion(kind, ComponentKind)}")
    return (None if notes.failed else component), notes.problems()


def _read_name(fields: Fields) -> str:
    form = "is no name: lower-case letters, digits, - and _, at most 64"
    return fields.text("name", required=True, pattern=_NAME, form=form, longest=64)


def _read_code(fields: Fields, owner: Owner) -> str:
    if isinstance(owner.execution, Command):
        if fields.raw("class") is not None:
            fields.error("class", "has no meaning where the plugin is a program; remove it, or `execute.command`")
        return ""
    return fields.text("class", required=True, pattern=_CODE, form="is not of the form module:Class")


def _read_runner(fields: Fields, owner: Owner) -> RunnerDefinition:
    name = _read_name(fields)
    runner = RunnerDefinition(
        id=f"plugin:{owner.id}/{name}",
        name=name,
        code=_read_code(fields, owner),
        label=fields.localized("label", required=True),
        description=fields.localized("description"),
        protocol_version=_read_protocol_version(fields),
        capabilities=_read_capabilities(fields.section("capabilities")),
        permissions=read_permissions(fields.section("permissions")),
        context_policy=_read_context_policy(fields.section("context_policy")),
        config_schema=read_config_schema(fields, "config_schema"),
        plugin_version=owner.version,
        retry_safe=fields.flag("retry_safe"),
        on_interrupted=fields.choice("on_interrupted", InterruptedPolicy, InterruptedPolicy.UNSPECIFIED),
        metadata=fields.json_object("metadata"),
    )
    fields.finish()
    return runner


def _read_protocol_version(fields: Fields) -> int:
    version = fields.integer("protocol_version", default=PROTOCOL_VERSION, low=1, high=1_000_000)
    if version != PROTOCOL_VERSION:
        fields.error(
            "protocol_version",
            f"is {version}, and this runtime speaks {PROTOCOL_VERSION}; "
            "use a version of the plugin for it, or a newer runtime",
        )
    return version


def _read_capabilities(fields: Fields) -> frozenset[Capability]:
    """Event context and a window of its own are taken for granted, as nearly every runner has them."""
    usual = {Capability.EVENT_CONTEXT, Capability.SELF_MANAGED_CONTEXT}
    found = frozenset(one for one in Capability if fields.flag(one, default=one in usual))
    for key in fields.keys():
        if key not in set(Capability):
            fields.notes.warn(fields.location(key), f"is no capability and ignored{suggestion(key, Capability)}")
    return found


def _read_context_policy(fields: Fields) -> frozenset[ContextFeature]:
    unusual = ContextFeature.SUPPORTS_HISTORY_SEARCH
    found = frozenset(one for one in ContextFeature if fields.flag(one, default=one is not unusual))
    fields.finish()
    return found
