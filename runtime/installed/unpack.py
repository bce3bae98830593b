"""From a zip to a folder that can be renamed into place: checked, written and synced. Blocking."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from portway.rpc.archive.paths import check_folders_spelled_once
from portway.rpc.archive.zip_read import StrictZip, ZipFileEntry, ZipLimits
from portway.runtime.installed.disk import check_room, room_told, sync_tree
from portway.runtime.plugins.plugin_manifest import MANIFEST

MAX_FILES = 20_000
MAX_UNPACKED_BYTES = 512 * 1024 * 1024
_LIMITS = ZipLimits(
    # Folders have entries of their own.
    entries=2 * MAX_FILES,
    unpacked_bytes=MAX_UNPACKED_BYTES,
    file_bytes=256 * 1024 * 1024,
    field="data",
    owner="plugin",
    # Packages of other languages nest deeply.
    deepest=32,
)
_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Unpacked:
    byte_count: int
    file_count: int


def unpack(zip_file: Path, folder: Path, reserve: int) -> Unpacked:
    """Makes the folder. Raises `InvalidInput`, `PayloadTooLarge` and `LimitExceeded` (disk); then what is there of the
    folder is the caller's to remove."""
    folder.mkdir(mode=0o700)
    with zip_file.open("rb") as file:
        opened = StrictZip(file, _LIMITS)
        check_folders_spelled_once((one.path for one in opened.files), _LIMITS.field, owner=_LIMITS.owner)
        entries = _within(opened)
        if len(entries) > MAX_FILES:
            raise opened.wrong(f"it has {len(entries)} files, and {MAX_FILES} are allowed")
        check_room(folder, sum(one.size + _BLOCK for one in entries), reserve)
        size = sum(_write(opened, one, folder / one.path) for one in entries)
    sync_tree(folder)
    return Unpacked(size, len(entries))


def _within(opened: StrictZip) -> Sequence[ZipFileEntry]:
    """The files by their path within the plugin: a zip may hold the plugin, or one folder that is the plugin."""
    if any(one.path == MANIFEST for one in opened.files):
        return opened.files
    tops = {one.path.partition("/")[0] for one in opened.files}
    top = next(iter(tops), "")
    if len(tops) != 1 or not any(one.path == f"{top}/{MANIFEST}" for one in opened.files):
        raise opened.wrong(f"there is no {MANIFEST} at its top, nor in its only folder")
    return [replace(one, path=one.path.removeprefix(f"{top}/")) for one in opened.files]


def _write(opened: StrictZip, entry: ZipFileEntry, target: Path) -> int:
    size = 0
    with room_told(target):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = 0o700 if entry.executable else 0o600
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with room_told(target), os.fdopen(descriptor, "wb") as file:
        for piece in opened.pieces(entry):
            size += file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return size
