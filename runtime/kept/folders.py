"""Folders that plugins may keep things in: one each, beside the plugins, so that an upgrade leaves it alone.

What lies there may be lost, and a plugin must be able to make it again: what must last is the host's.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from portway.rpc.errors import LimitExceeded, Quota
from portway.runtime.plugins.types import MIB, PluginDefinition

LOOK_EVERY = 5.0
# What a process may write between two looks; one that goes on is ended.
OVER = 1.25


class PluginFolders:
    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, plugin_id: str) -> Path:
        """The plugin's folder; `make` makes it."""
        return self._root / plugin_id

    def make(self, plugin_id: str) -> Path:
        folder = self.folder(plugin_id)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    async def check(self, plugin: PluginDefinition) -> None:
        """Raises `LimitExceeded` for a folder that is full."""
        used = await self.used(plugin.id)
        if used >= plugin.limits.data_mb * MIB:
            raise LimitExceeded(
                f"the folder of {plugin.id} has {used} bytes, and its manifest allows {plugin.limits.data_mb} MiB "
                "(limits.data_mb); delete knowledge bases or documents, or raise the limit",
                quota=Quota(plugin.id, f"{plugin.limits.data_mb} MiB in its folder"),
            )

    async def used(self, plugin_id: str) -> int:
        """Bytes on disk."""
        return await asyncio.to_thread(_size, self.folder(plugin_id))

    async def drop(self, plugin_id: str) -> None:
        """The plugin is removed, and what it kept with it."""
        await asyncio.to_thread(shutil.rmtree, self.folder(plugin_id), True)

    async def watch(self, running: Callable[[], Iterable[PluginDefinition]], end: Callable[[str, str], None]) -> None:
        """Ends the processes of plugins that write far more than they may. Never returns."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for plugin in list(running()):
                used = await self.used(plugin.id)
                if used > plugin.limits.data_mb * MIB * OVER:
                    end(plugin.id, f"wrote {used} bytes to its folder, and {plugin.limits.data_mb} MiB are allowed")


def _size(folder: Path) -> int:
    """What the files take up, holes left out; files that vanish meanwhile count nothing."""
    total, waiting = 0, [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    else:
                        total += _blocks(entry)
        except OSError:
            continue
    return total


def _blocks(entry: "os.DirEntry[str]") -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:
        return 0
