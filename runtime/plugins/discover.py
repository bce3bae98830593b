"""Finds plugins in folders. One that is broken never hides another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from portway.runtime.plugins.plugin_manifest import MANIFEST, read_plugin
from portway.runtime.plugins.types import BrokenPlugin, PluginDefinition, Problem

MAX_PLUGINS = 1000


@dataclass(frozen=True, slots=True)
class Found:
    """What the folders hold; `problems` are those of folders in which no plugin's manifest can be read."""

    plugins: Sequence[PluginDefinition] = ()
    broken: Sequence[BrokenPlugin] = ()
    problems: Sequence[Problem] = ()


def find_plugins(
    bundled: Sequence[Path], added: Sequence[Path], installed: Sequence[Path] = (), *, installed_first: bool = False
) -> Found:
    """Looks through folders of plugins (or at folders that are one). The first of two with the same id is taken: those
    that came with Portway, then those that were installed (`installed_first`: the other way round), then the added."""
    plugins: dict[str, PluginDefinition] = {}
    broken: list[BrokenPlugin] = []
    problems: list[Problem] = []
    roots = [(bundled, True), (installed, False), (added, False)]
    if installed_first:
        roots[0], roots[1] = roots[1], roots[0]
    for folder, is_bundled in _candidates(roots, problems):
        plugin = read_plugin(folder, bundled=is_bundled)
        if isinstance(plugin, BrokenPlugin):
            broken.append(plugin)
        elif plugin.id in plugins and is_bundled:
            # The operator installed another one in its place, and allowed that.
            continue
        elif plugin.id in plugins:
            other = plugins[plugin.id].folder
            message = f"{plugin.id} is also in {other}, which is used; remove one of the two or give it another name"
            problems.append(Problem(str(folder), MANIFEST, message))
        elif len(plugins) >= MAX_PLUGINS:
            message = f"there are more than {MAX_PLUGINS} plugins; it is left out"
            problems.append(Problem(str(folder), MANIFEST, message))
        else:
            plugins[plugin.id] = plugin
    return Found(tuple(plugins.values()), tuple(broken), tuple(problems))


def _candidates(groups: Sequence[tuple[Sequence[Path], bool]], problems: list[Problem]) -> Iterator[tuple[Path, bool]]:
    for roots, is_bundled in groups:
        for root in roots:
            for folder in _folders_of(root, problems):
                yield folder, is_bundled


def _folders_of(root: Path, problems: list[Problem]) -> Sequence[Path]:
    if (root / MANIFEST).exists():
        return [root]
    try:
        entries = sorted(root.iterdir())
    except OSError as error:
        message = f"cannot be looked through: {error.strerror}; correct the folder in the configuration or create it"
        problems.append(Problem(str(root), str(root), message))
        return []
    folders = [entry for entry in entries if entry.is_dir() and entry.name[0] not in "._"]
    return [folder for folder in folders if _has_manifest(folder, problems)]


def _has_manifest(folder: Path, problems: list[Problem]) -> bool:
    if (folder / MANIFEST).exists():
        return True
    problems.append(Problem(str(folder), MANIFEST, f"is missing; a plugin's folder has a {MANIFEST}"))
    return False
