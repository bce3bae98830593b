"""The suites for tools, knowledge engines, parsers and event listeners, on plugins in several languages."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from portway.runtime.kit.components.end import ComponentEnd
from portway.runtime.kit.components.suites import suite_of
from portway.runtime.kit.components.trying import ComponentBehaviour, Tried
from portway.runtime.kit.subject import live
from portway.runtime.kit.trial import PATIENCE
from portway.runtime.plugins.plugin_manifest import read_plugin
from portway.runtime.plugins.types import BrokenPlugin, ComponentDefinition, kind_of
from tests.contracts.runner.built import EXAMPLES, built_go

OWN = Path(__file__).parent / "plugins"
# The folder of a plugin, and its component.
SUBJECTS: dict[str, tuple[Callable[[], Path], str]] = {
    "tool-python": (lambda: OWN / "words", "conformance"),
    "tool-go": (built_go, "conformance"),
    "knowledge-engine": (lambda: EXAMPLES / "knowledge_plugin", "index"),
    "parser": (lambda: EXAMPLES / "parser_plugin", "markup"),
    "listener": (lambda: EXAMPLES / "listener_plugin", "count"),
}
_BUILT = ("tool-go",)


def component_of(folder: Path, name: str) -> ComponentDefinition:
    plugin = read_plugin(folder, bundled=False)
    assert not isinstance(plugin, BrokenPlugin), plugin.problems
    return next(one for one in (*plugin.tools, *plugin.others) if one.name == name)


@pytest.mark.parametrize(
    "subject", [pytest.param(one, marks=[pytest.mark.heavy] if one in _BUILT else []) for one in SUBJECTS]
)
async def test_a_component_does_what_its_kind_must(subject: str, tmp_path: Path) -> None:
    """One runtime for all of them: what one behaviour leaves behind must not spoil the next."""
    folder, name = SUBJECTS[subject][0](), SUBJECTS[subject][1]
    component = component_of(folder, name)
    async with live(component.id, folder, tmp_path) as running:
        for number, behaviour in enumerate(suite_of(component)):
            # A workspace of its own: what an index holds is nobody else's.
            end = ComponentEnd(running.host.channel, kind_of(component), component.id, f"workspace-{number}")
            await tried(behaviour, Tried(running, end, component))


async def tried(behaviour: ComponentBehaviour, subject: Tried) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            await behaviour.check(subject)
    except Exception as error:
        error.add_note(f"while it was tried whether the component: {behaviour.name}")
        raise
