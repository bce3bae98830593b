"""What is wrong with a manifest is said with file, field and a suggestion, and hides nothing else."""

from pathlib import Path

import pytest

from portway.runtime.plugins.discover import find_plugins
from portway.runtime.plugins.plugin_manifest import read_plugin
from portway.runtime.plugins.types import (
    BrokenPlugin,
    Capability,
    Command,
    ContextFeature,
    HistoryScope,
    InterruptedPolicy,
    Permission,
    PluginDefinition,
    StartMode,
)
from tests.runtime.folders import COMPONENT, write_plugin

RUNNER = COMPONENT.format(module="one")


def _good(folder: Path) -> PluginDefinition:
    plugin = read_plugin(folder, bundled=False)
    assert isinstance(plugin, PluginDefinition), plugin
    return plugin


def _problems(folder: Path) -> list[tuple[str, str]]:
    return [(problem.location, problem.message) for problem in read_plugin(folder, bundled=False).problems]


def test_a_small_manifest_gets_the_usual_defaults(tmp_path: Path) -> None:
    plugin = _good(write_plugin(tmp_path))
    runner = plugin.runners[0]
    assert (plugin.id, runner.id) == ("test/one", "plugin:test/one/default")
    assert runner.protocol_version == 1
    assert runner.capabilities == {Capability.EVENT_CONTEXT, Capability.SELF_MANAGED_CONTEXT}
    assert runner.context_policy == set(ContextFeature) - {ContextFeature.SUPPORTS_HISTORY_SEARCH}
    assert runner.permissions.granted == frozenset()
    assert runner.permissions.history_scope is HistoryScope.CONVERSATION
    assert runner.on_interrupted is InterruptedPolicy.UNSPECIFIED
    assert plugin.start is StartMode.ON_DEMAND
    assert not plugin.problems


def test_everything_that_a_manifest_can_say_is_read(tmp_path: Path) -> None:
    folder = write_plugin(
        tmp_path,
        more="start: boot\nidle_stop: 10m\nlimits: {memory_mb: 128, open_files: 99}\nenvironment: [HTTP_PROXY]\n"
        "description: {en: One, zh-Hans: 一}\n",
        component=RUNNER
        + "capabilities: {streaming: true, event_context: false}\n"
        + "permissions:\n  models: [invoke, stream]\n  history: {page: true, search: false}\n  state: true\n"
        + "  history_scope: thread\n  platform_actions: [message.recall]\n"
        + "context_policy: {owns_compaction: false}\nretry_safe: true\non_interrupted: retry\nmetadata: {team: a}\n"
        + "config_schema:\n  - {name: depth, type: number, default: 3}\n"
        + "  - {name: tone, type: select, options: [{value: dry}, {value: warm, label: Warm}], default: dry}\n",
    )
    plugin = _good(folder)
    runner = plugin.runners[0]
    assert (plugin.start, plugin.idle_stop) == (StartMode.BOOT, 600.0)
    assert (plugin.limits.memory_mb, plugin.limits.open_files) == (128, 99)
    assert plugin.environment == ("HTTP_PROXY",)
    assert plugin.description == {"en": "One", "zh-Hans": "一"}
    assert runner.permissions.granted == {
        Permission.MODELS_INVOKE,
        Permission.MODELS_STREAM,
        Permission.HISTORY_PAGE,
        Permission.STATE,
    }
    assert runner.permissions.history_scope is HistoryScope.THREAD
    assert runner.permissions.platform_actions == ("message.recall",)
    assert Capability.EVENT_CONTEXT not in runner.capabilities
    assert (runner.retry_safe, runner.on_interrupted) == (True, InterruptedPolicy.RETRY)
    assert [(field.name, field.default) for field in runner.config_schema] == [("depth", 3), ("tone", "dry")]
    assert not plugin.problems


@pytest.mark.parametrize(
    ("component", "location", "part"),
    [
        ("permissions: {modles: [invoke]}\n", "permissions.modles", 'did you mean "models"?'),
        ("permissions: {models: [invoke, strem]}\n", "permissions.models.strem", 'did you mean "stream"?'),
        ("permissions: {state: maybe}\n", "permissions.state", "true or false"),
        ("protocol_version: 2\n", "protocol_version", "this runtime speaks 1"),
        ("capabilities: {streaming: 1}\n", "capabilities.streaming", "true or false"),
        ("on_interrupted: retri\n", "on_interrupted", 'did you mean "retry"?'),
        ("config_schema: [{name: a, type: txt}]\n", "config_schema[0].type", 'did you mean "text"?'),
        ("config_schema: [{type: text}]\n", "config_schema[0].name", "is missing"),
        ("config_schema: [{name: a, type: select}]\n", "config_schema[0].options", "is missing"),
        ("config_schema: [{name: a, type: number, default: b}]\n", "config_schema[0].default", "does not fit"),
        ("config_schema: [{name: a, type: secret, default: b}]\n", "config_schema[0].default", "has no default"),
        ("config_schema: [{name: a, type: text}, {name: a, type: text}]\n", "config_schema", "more than once"),
        ("metadata: [1]\n", "metadata", "must be a mapping"),
    ],
)
def test_a_wrong_field_rejects_the_runner_alone_and_names_the_field(
    tmp_path: Path, component: str, location: str, part: str
) -> None:
    folder = write_plugin(tmp_path, component=RUNNER.replace("default", "broken") + component)
    (folder / "components" / "good.yaml").write_text(RUNNER)
    plugin = _good(folder)
    assert [runner.name for runner in plugin.runners] == ["default"]
    assert [one.location for one in plugin.problems] == [f"components/default.yaml: {location}"]
    assert part in plugin.problems[0].message
    assert not plugin.problems[0].warning


@pytest.mark.parametrize(
    ("component", "location"),
    [("capabilities: {steaming: true}\n", "capabilities.steaming"), ("colour: red\n", "colour")],
)
def test_what_is_not_known_and_harmless_is_only_a_warning(tmp_path: Path, component: str, location: str) -> None:
    plugin = _good(write_plugin(tmp_path, component=RUNNER + component))
    assert [(one.location, one.warning) for one in plugin.problems] == [(f"components/default.yaml: {location}", True)]


def test_all_wrong_fields_are_told_at_once(tmp_path: Path) -> None:
    folder = write_plugin(tmp_path, component="kind: AgentRunner\nname: Not A Name\nclass: nothing\n")
    locations = [location for location, _ in _problems(folder)]
    assert locations == [
        "components/default.yaml: name",
        "components/default.yaml: class",
        "components/default.yaml: label",
        "components",
    ]


@pytest.mark.parametrize(
    ("manifest", "location", "part"),
    [
        ("author: [\n", "manifest.yaml", "line 2"),
        ("- a\n- b\n", "manifest.yaml", "not a mapping"),
        ("author: a\nauthor: b\n", "manifest.yaml", "stands twice"),
        ("a: &x 1\nb: *x\n", "manifest.yaml", "alias"),
        ("name: one\nversion: 1\n", "manifest.yaml: author", "is missing"),
        ("author: Test!\nname: one\nversion: 1\n", "manifest.yaml: author", "is no name"),
        ("author: a\nname: one\n", "manifest.yaml: version", "is missing"),
        ("author: a\nname: one\nversion: 1\nstart: sometimes\n", "manifest.yaml: start", "boot, on_demand"),
        ("author: a\nname: one\nversion: 1\nidle_stop: soon\n", "manifest.yaml: idle_stop", "90s"),
        ("author: a\nname: one\nversion: 1\nlimits: {memory_mb: 1}\n", "manifest.yaml: limits.memory_mb", "from 64"),
        ("author: a\nname: one\nversion: 1\nenvironment: [PORTWAY_TOKEN]\n", "manifest.yaml: environment[0]", "own"),
        (
            "author: a\nname: one\nversion: 1\nexecute: {command: [./no]}\n",
            "manifest.yaml: execute.command[0]",
            "build",
        ),
        (
            "author: a\nname: one\nversion: 1\nexecute: {command: [../../bin/sh]}\n",
            "manifest.yaml: execute.command[0]",
            "outside",
        ),
        (
            "author: a\nname: one\nversion: 1\nexecute: {requirements: [numpy, 'no good==']}\n",
            "manifest.yaml: execute.requirements[1]",
            "is no requirement",
        ),
        (
            "author: a\nname: one\nversion: 1\nexecute: {requirements: ['--index-url=http://elsewhere']}\n",
            "manifest.yaml: execute.requirements[0]",
            "set by the operator",
        ),
        (
            "author: a\nname: one\nversion: 1\nexecute: {requirements: ['a @ git+https://elsewhere/a']}\n",
            "manifest.yaml: execute.requirements[0]",
            "put its wheel into the folder wheels/",
        ),
        (
            f"author: a\nname: one\nversion: 1\nexecute: {{requirements: [a==1, b==1 --hash=sha256:{'0' * 64}]}}\n",
            "manifest.yaml: execute.requirements",
            "a==1 has no --hash",
        ),
        (
            "author: a\nname: one\nversion: 1\nexecute: {requirements: ../list.txt}\n",
            "manifest.yaml: execute.requirements",
            "outside the plugin's folder",
        ),
        (
            "author: a\nname: one\nversion: 1\nexecute: {python: '3.2'}\n",
            "manifest.yaml: execute.python",
            "which Portway runs on",
        ),
        (
            "author: a\nname: one\nversion: 1\nexecute: {python: newest}\n",
            "manifest.yaml: execute.python",
            "is no range of versions",
        ),
    ],
)
def test_a_manifest_that_cannot_be_used_breaks_the_plugin_and_says_why(
    tmp_path: Path, manifest: str, location: str, part: str
) -> None:
    folder = write_plugin(tmp_path)
    (folder / "manifest.yaml").write_text(manifest)
    plugin = read_plugin(folder, bundled=False)
    assert isinstance(plugin, BrokenPlugin)
    assert (plugin.problems[0].location, part in plugin.problems[0].message) == (location, True), plugin.problems


def test_a_huge_manifest_and_one_that_is_no_text_are_refused(tmp_path: Path) -> None:
    folder = write_plugin(tmp_path)
    (folder / "manifest.yaml").write_text("a: " + "x" * 300_000)
    assert "larger than 256 KiB" in _problems(folder)[0][1]
    (folder / "manifest.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in _problems(folder)[0][1]


def test_a_broken_plugin_never_hides_another(tmp_path: Path) -> None:
    write_plugin(tmp_path, "good")
    (write_plugin(tmp_path, "bad") / "manifest.yaml").write_text("author: [")
    (tmp_path / "empty").mkdir()
    found = find_plugins([], [tmp_path, tmp_path / "nowhere"])
    assert [plugin.id for plugin in found.plugins] == ["test/good"]
    assert [plugin.folder.name for plugin in found.broken] == ["bad"]
    assert [Path(problem.plugin).name for problem in found.problems] == ["empty", "nowhere"]


def test_the_first_of_two_plugins_with_one_name_is_used(tmp_path: Path) -> None:
    write_plugin(tmp_path / "a", "one")
    write_plugin(tmp_path / "b", "one", version="2.0.0")
    found = find_plugins([tmp_path / "a"], [tmp_path / "b"])
    assert [(plugin.version, plugin.bundled) for plugin in found.plugins] == [("1.0.0", True)]
    assert "is also in" in found.problems[0].message


def test_a_folder_that_is_a_plugin_can_be_named_itself(tmp_path: Path) -> None:
    assert [plugin.id for plugin in find_plugins([], [write_plugin(tmp_path)]).plugins] == ["test/one"]


def test_a_program_needs_no_class(tmp_path: Path) -> None:
    folder = write_plugin(
        tmp_path,
        more="execute: {command: [./run, --fast]}\n",
        component="kind: AgentRunner\nname: default\nlabel: A program\n",
    )
    assert _problems(folder)[0][0] == "manifest.yaml: execute.command[0]"
    (folder / "run").write_text("#!/bin/sh\n")
    assert _good(folder).execution == Command(("./run", "--fast"))


def test_a_changed_file_changes_the_digest_and_a_cache_does_not(tmp_path: Path) -> None:
    folder = write_plugin(tmp_path)
    before = _good(folder).digest
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "one.pyc").write_bytes(b"x")
    assert _good(folder).digest == before
    (folder / "one.py").write_text("# changed")
    assert _good(folder).digest != before
