"""Where installed plugins lie, and what a killed installation leaves there. Blocking."""

import re
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from portway.runtime.installed.disk import remove_tree, sync_folder

_UNSAFE = re.compile(r"[^0-9A-Za-z.+_-]")
_DIGEST_CHARS = 16


class InstalledFolders:
    """Below the runtime's data folder: `records/`, `versions/AUTHOR.NAME/VERSION-DIGEST/` and `incoming/`."""

    def __init__(self, root: Path) -> None:
        self.records = root / "records"
        self.versions = root / "versions"
        self.incoming = root / "incoming"
        for folder in (self.records, self.versions, self.incoming):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def name_for(self, plugin_id: str, version: str, digest: str) -> str:
        """The folder of a version, relative to that of all versions: for people by version, for machines by digest."""
        shown = _UNSAFE.sub("_", version).lstrip(".")[:48]
        return f"{self._name(plugin_id)}/{shown}-{digest[:_DIGEST_CHARS]}"

    def settle(self, unpacked: Path, name: str) -> Path:
        """Renames an unpacked version into its place, on disk when it returns. What lay there was a leftover."""
        place = self.versions / name
        remove_tree(place)
        made = not place.parent.exists()
        place.parent.mkdir(mode=0o700, exist_ok=True)
        if made:
            sync_folder(self.versions)
        unpacked.rename(place)
        sync_folder(place.parent)
        return place

    def remove(self, name: str) -> None:
        place = self.versions / name
        remove_tree(place)
        if not any(place.parent.glob("*")):
            shutil.rmtree(place.parent, ignore_errors=True)

    def sweep(self, named: Collection[str], unknown: Collection[str]) -> int:
        """At the start: removes what no record names. `unknown` are plugins whose records cannot be read: they stay."""
        swept = 0
        for one in self.incoming.iterdir():
            shutil.rmtree(one, ignore_errors=True)
            swept += 1
        spared = {self._name(plugin_id) for plugin_id in unknown}
        for plugin in self.versions.iterdir():
            for version in list(plugin.iterdir()) if plugin.name not in spared else ():
                name = f"{plugin.name}/{version.name}"
                if name not in named:
                    self.remove(name)
                    swept += 1
            if plugin.exists() and not any(plugin.iterdir()):
                plugin.rmdir()
        return swept

    def of(self, plugin_id: str) -> Sequence[str]:
        """The folders of a plugin's versions, as `name_for` names them."""
        folder = self.versions / self._name(plugin_id)
        return [f"{folder.name}/{one.name}" for one in folder.iterdir()] if folder.exists() else []

    def owns(self, folder: Path) -> bool:
        return folder.is_relative_to(self.versions)

    @staticmethod
    def _name(plugin_id: str) -> str:
        return plugin_id.replace("/", ".")
