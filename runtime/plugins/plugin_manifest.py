"""`manifest.yaml`: who made a plugin, what it executes, when it starts and what it may use of the machine."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from portway.runtime.plugins.component_manifest import Component, Owner, read_component
from portway.runtime.plugins.fields import Fields, Notes
from portway.runtime.plugins.folder import UnusableFolder, digest_of
from portway.runtime.plugins.requirements import read_requirements
from portway.runtime.plugins.types import (
    BrokenPlugin,
    Command,
    ComponentKind,
    EngineDefinition,
    Execution,
    ListenerDefinition,
    ParserDefinition,
    PluginDefinition,
    Problem,
    ProcessLimits,
    PythonCode,
    RunnerDefinition,
    StartMode,
    ToolDefinition,
    kind_of,
)
from portway.runtime.plugins.yaml_file import UnreadableFile, read_yaml

MANIFEST = "manifest.yaml"
COMPONENTS = "components"
MAX_COMPONENTS = 200

_NAME = r"[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?"
_NAME_FORM = "is no name: lower-case letters, digits, - and _, at most 64"
# What a plugin is given anyway, or what would let it pose as another.
_RESERVED_PREFIX = "PORTWAY_"
_OTHERS = (EngineDefinition, ParserDefinition, ListenerDefinition)


@dataclass(frozen=True, slots=True)
class _Header:
    """The manifest without its components."""

    id: str
    version: str
    execution: Execution
    start: StartMode
    idle_stop: float | None
    limits: ProcessLimits
    environment: Sequence[str]
    label: dict[str, str]
    description: dict[str, str]


def read_plugin(folder: Path, *, bundled: bool) -> PluginDefinition | BrokenPlugin:
    """The plugin in `folder`. A component that cannot be used is left out; the others stay."""
    notes = Notes(str(folder))
    try:
        fields = Fields(MANIFEST, read_yaml(folder / MANIFEST), notes)
    except UnreadableFile as error:
        notes.error(MANIFEST, str(error))
        return BrokenPlugin(str(folder), "", folder, bundled, notes.problems())
    header = _read_header(fields, folder)
    notes.plugin = header.id or str(folder)
    if notes.failed:
        return BrokenPlugin(notes.plugin, header.version, folder, bundled, _renamed(notes))
    components, found = _read_components(folder, Owner(header.id, header.version, header.execution))
    problems = [*_renamed(notes), *found]
    try:
        digest = digest_of(folder)
    except UnusableFolder as error:
        return BrokenPlugin(header.id, header.version, folder, bundled, [Problem(header.id, str(folder), str(error))])
    if not components:
        problems.append(Problem(header.id, COMPONENTS, "no component can be used; the plugin does nothing"))
        return BrokenPlugin(header.id, header.version, folder, bundled, tuple(problems))
    return _definition(header, folder, bundled, components, problems, digest)


def _definition(
    header: _Header,
    folder: Path,
    bundled: bool,
    components: Sequence[Component],
    problems: Sequence[Problem],
    digest: str,
) -> PluginDefinition:
    return PluginDefinition(
        id=header.id,
        version=header.version,
        folder=folder,
        bundled=bundled,
        label=header.label,
        description=header.description,
        execution=header.execution,
        start=header.start,
        idle_stop=header.idle_stop,
        limits=header.limits,
        environment=header.environment,
        runners=tuple(one for one in components if isinstance(one, RunnerDefinition)),
        tools=tuple(one for one in components if isinstance(one, ToolDefinition)),
        others=tuple(one for one in components if isinstance(one, _OTHERS)),
        problems=tuple(problems),
        digest=digest,
    )


def _renamed(notes: Notes) -> Sequence[Problem]:
    """The header's notes were taken before the plugin's name was known."""
    return tuple(Problem(notes.plugin, one.location, one.message, one.warning) for one in notes.problems())


def _read_header(fields: Fields, folder: Path) -> _Header:
    kind = fields.text("kind", default="Plugin")
    if kind != "Plugin":
        fields.error("kind", f"{kind!r}: a manifest.yaml describes a Plugin; components lie in {COMPONENTS}/")
    author = fields.text("author", required=True, pattern=_NAME, form=_NAME_FORM, longest=64)
    name = fields.text("name", required=True, pattern=_NAME, form=_NAME_FORM, longest=64)
    header = _Header(
        id=f"{author}/{name}" if author and name else "",
        version=fields.text("version", required=True, longest=64),
        execution=_read_execution(fields.section("execute"), folder),
        start=fields.choice("start", StartMode, StartMode.ON_DEMAND),
        idle_stop=fields.seconds("idle_stop"),
        limits=_read_limits(fields.section("limits")),
        environment=_read_environment(fields),
        label=dict(fields.localized("label")) or {"en": name},
        description=dict(fields.localized("description")),
    )
    fields.finish()
    return header


def _read_execution(fields: Fields, folder: Path) -> Execution:
    arguments = fields.texts("command", most=100, longest=4096)
    if fields.has("command") and not arguments:
        fields.error("command", "is empty; name the program and its arguments")
    if not fields.has("command"):
        code = PythonCode(read_requirements(fields, folder))
        _check_python(fields)
        fields.finish()
        return code
    for key in ("requirements", "python"):
        if fields.has(key):
            fields.error(key, "is for plugins whose components are Python classes; a `command` brings what it needs")
            fields.raw(key)
    fields.finish()
    if not arguments:
        return PythonCode()
    if "/" in arguments[0]:
        program = (folder / arguments[0]).resolve()
        if not program.is_relative_to(folder.resolve()):
            fields.error("command[0]", f"{arguments[0]!r} lies outside the plugin's folder; copy the program into it")
        elif not program.is_file():
            fields.error("command[0]", f"{arguments[0]!r} is not in the plugin's folder; build it, or correct the path")
    return Command(arguments)


def _check_python(fields: Fields) -> None:
    """All Python plugins run on the runtime's Python; `python` says which versions a plugin can do with."""
    wanted = fields.text("python", longest=128)
    if not wanted:
        return
    try:
        allowed = SpecifierSet(wanted if wanted[0] in "<>=!~" else f"=={wanted}.*")
    except InvalidSpecifier:
        fields.error("python", f"{wanted!r} is no range of versions; write it like '>=3.11' or '3.12'")
        return
    here = platform.python_version()
    if not allowed.contains(here, prereleases=True):
        fields.error("python", f"{wanted!r} does not allow {here}, which Portway runs on; start Portway with another")


def _read_limits(fields: Fields) -> ProcessLimits:
    usual = ProcessLimits()
    limits = ProcessLimits(
        memory_mb=fields.integer("memory_mb", default=usual.memory_mb, low=64, high=65_536),
        open_files=fields.integer("open_files", default=usual.open_files, low=64, high=65_536),
        data_mb=fields.integer("data_mb", default=usual.data_mb, low=1, high=65_536),
        processes=fields.integer("processes", default=usual.processes, low=16, high=65_536),
        cpus=fields.number("cpus", default=usual.cpus, low=0.05, high=1024),
    )
    fields.finish()
    return limits


def _read_environment(fields: Fields) -> Sequence[str]:
    names = fields.texts("environment", most=100, longest=128)
    for index, name in enumerate(names):
        if name.startswith(_RESERVED_PREFIX):
            fields.error(f"environment[{index}]", f"{name}: names with {_RESERVED_PREFIX} are Portway's own; remove it")
        elif not name.replace("_", "a").isalnum() or name[0].isdigit():
            fields.error(f"environment[{index}]", f"{name!r} is no name of an environment variable")
    return names


def _read_components(folder: Path, owner: Owner) -> tuple[Sequence[Component], Sequence[Problem]]:
    files = sorted(file for pattern in ("*.yaml", "*.yml") for file in (folder / COMPONENTS).glob(pattern))
    components: list[Component] = []
    named: dict[tuple[ComponentKind, str], str] = {}
    problems: list[Problem] = []
    if len(files) > MAX_COMPONENTS:
        message = f"has {len(files)} files; {MAX_COMPONENTS} are read"
        problems.append(Problem(owner.id, COMPONENTS, message, warning=True))
    for file in files[:MAX_COMPONENTS]:
        name = f"{COMPONENTS}/{file.name}"
        component, found = read_component(file, name, owner)
        problems.extend(found)
        if component is None:
            continue
        taken = named.setdefault((kind_of(component), component.name), name)
        if taken != name:
            message = f"{component.name!r} is the name of the {kind_of(component)} in {taken}; rename one of the two"
            problems.append(Problem(owner.id, f"{name}: name", message))
        else:
            components.append(component)
    return components, problems
