"""A plugin's folder as its author has it."""

from pathlib import Path

from portway.runtime.plugins.plugin_manifest import read_plugin
from portway.runtime.plugins.types import BrokenPlugin, PluginDefinition, Problem


class Unusable(Exception):
    """It cannot be done with what was given; the text says why and what to do."""


def plugin_in(folder: Path) -> PluginDefinition:
    """The plugin, whole. Raises `Unusable` with each problem by file and field, also of a single component."""
    if not folder.is_dir():
        raise Unusable(f"{folder} is no folder; name the folder with the plugin's manifest.yaml")
    plugin = read_plugin(folder.resolve(), bundled=False)
    broken = [problem for problem in plugin.problems if not problem.warning]
    if broken or isinstance(plugin, BrokenPlugin):
        raise Unusable("\n".join(f"{folder}/{_told(problem)}" for problem in broken))
    return plugin


def _told(problem: Problem) -> str:
    return f"{problem.location}: {problem.message}"
