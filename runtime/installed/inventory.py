"""What was installed and decided, together with what the folders hold: what there is to run."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from portway.runtime.installed.folders import InstalledFolders
from portway.runtime.installed.store import FileRecords
from portway.runtime.installed.types import Record, Version
from portway.runtime.plugins.catalog import Contents
from portway.runtime.plugins.discover import find_plugins
from portway.runtime.plugins.types import BrokenPlugin, Problem
from portway.runtime.signing.judge import SignatureRules

MAX_REMEMBERED = 500
"""Plugins that were removed and whose last requests are still known."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Folders with plugins: those that came with Portway, and those of the operator."""

    bundled: Sequence[Path]
    added: Sequence[Path]


class Inventory:
    """Blocking. `replace_bundled` lets an installed plugin stand in for one that came with Portway."""

    def __init__(
        self,
        sources: Sources,
        folders: InstalledFolders,
        records: FileRecords,
        signatures: SignatureRules,
        *,
        replace_bundled: bool,
    ) -> None:
        self._sources = sources
        self._folders = folders
        self._records = records
        self._signatures = signatures
        self._replace_bundled = replace_bundled

    def open(self) -> None:
        """At the start: nothing of a killed change stays."""
        records = self._records.all().values()
        nothing_left = [one.plugin_id for one in records if not (one.versions or one.disabled)]
        if len(nothing_left) > MAX_REMEMBERED:
            self._records.forget(nothing_left[:-MAX_REMEMBERED])
        named = {version.folder for record in records for version in record.versions}
        swept = self._folders.sweep(named, [problem.plugin for problem in self._records.problems()])
        if swept:
            structlog.get_logger("portway.runtime.plugins").info("leftovers of installations removed", count=swept)

    def look(self) -> Contents:
        """What there is now."""
        current = {one.plugin_id: one for one in self._records.all().values() if one.installed}
        refused = [plugin for record in current.values() if (plugin := self._refused(record)) is not None]
        without = {plugin.id for plugin in refused}
        places = [self.place(record) for plugin_id, record in sorted(current.items()) if plugin_id not in without]
        found = find_plugins(self._sources.bundled, self._sources.added, places, installed_first=self._replace_bundled)
        problems = (*found.problems, *self._records.problems())
        found = replace(found, broken=(*found.broken, *refused), problems=problems)
        return Contents.of(found, self._disabled())

    def place(self, record: Record) -> Path:
        """Where the current version of an installed plugin lies."""
        version = record.version(record.current)
        assert version is not None, "the current version is always among those kept"
        return self.place_of(version)

    def place_of(self, version: Version) -> Path:
        return self._folders.versions / version.folder

    def clean(self, plugin_id: str, in_use: Collection[Path]) -> None:
        """Removes the folders of a plugin that its record does not name, but for those in use."""
        named = {version.folder for version in self._records.get(plugin_id).versions}
        for name in self._folders.of(plugin_id):
            if name not in named and self._folders.versions / name not in in_use:
                self._folders.remove(name)

    def _refused(self, record: Record) -> BrokenPlugin | None:
        """An installed plugin whose current version may not run."""
        version = record.version(record.current)
        if version is None:
            problem = Problem(record.plugin_id, "version", "the current one is not kept any more; install it again")
            return BrokenPlugin(record.plugin_id, "", self._folders.versions, False, [problem])
        refusal = self._signatures.refusal(version.signature.key_id if version.signature else "")
        if not refusal:
            return None
        problem = Problem(record.plugin_id, f"version {version.version}", refusal)
        return BrokenPlugin(record.plugin_id, version.version, self.place_of(version), False, [problem])

    def _disabled(self) -> Mapping[str, str]:
        records = self._records.all().items()
        return {plugin_id: told_of_disabled(record) for plugin_id, record in records if record.disabled}


def told_of_disabled(record: Record) -> str:
    because = f" ({record.disabled_because})" if record.disabled_because else ""
    return f"the operator disabled the plugin {record.plugin_id}{because}; `portway plugin enable` takes it back"
