"""Packs a plugin as a zip: the same files make the same bytes, whenever and wherever."""

import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

from portway.runtime.kit.folder import Unusable, plugin_in

# What tools and machines leave beside the code. The packages of a Node.js program are part of it.
_LEFT_OUT = frozenset({"__pycache__", ".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".DS_Store"})
MAX_FILES = 20_000
MAX_BYTES = 512 * 1024 * 1024
# The first time that a zip can hold.
_TIME = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1024 * 1024


def pack(folder: Path, output: Path | None = None) -> Path:
    """Writes the zip and returns where it is. Raises `Unusable` for a plugin that could not be installed."""
    plugin = plugin_in(folder)
    name = f"{plugin.id.replace('/', '-')}-{plugin.version}.zip"
    target = Path(name) if output is None else output / name if output.is_dir() else output
    files = sorted(_files(folder), key=lambda path: path.relative_to(folder).as_posix())
    _check(folder, files, target)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for path in files:
                _add(archive, path, path.relative_to(folder).as_posix())
        partial.replace(target)
    except OSError as error:
        raise Unusable(f"{target} cannot be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    return target


def _check(folder: Path, files: list[Path], target: Path) -> None:
    if len(files) > MAX_FILES:
        raise Unusable(f"{folder} has {len(files)} files; at most {MAX_FILES} are packed")
    size = sum(path.stat().st_size for path in files)
    if size > MAX_BYTES:
        raise Unusable(f"{folder} has {size} bytes; at most {MAX_BYTES} are packed")
    if target.resolve() in {path.resolve() for path in files}:
        raise Unusable(f"{target} lies in the plugin's folder and would pack itself; use --output")


def _files(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.name in _LEFT_OUT:
            continue
        if entry.is_symlink():
            # The links of .bin are for the command line; other links may lead out of the folder.
            if entry.parent.name != ".bin":
                raise Unusable(f"{entry} is a link; a packed plugin holds files only, so put the file there")
        elif entry.is_dir():
            yield from _files(entry)
        elif entry.is_file():
            yield entry


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    """With nothing of the machine in it but whether the file may be executed."""
    info = zipfile.ZipInfo(name, _TIME)
    info.create_system = 3
    executable = path.stat().st_mode & stat.S_IXUSR
    info.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    with path.open("rb") as source, archive.open(info, "w") as entry:
        while piece := source.read(_CHUNK):
            entry.write(piece)
