"""The files of a plugin's folder: a digest that changes when one of them does."""

import hashlib
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

MAX_FILES = 20_000
_LEFT_OUT = frozenset({"__pycache__", "node_modules", ".git", ".venv", ".mypy_cache", ".ruff_cache"})


class UnusableFolder(Exception):
    """The folder's files cannot be looked through; the message is for people."""


def digest_of(folder: Path) -> str:
    """Covers path, size and time of change of each file: cheap enough for each reload, and enough to see an edit."""
    try:
        files = sorted(islice(_files(str(folder)), MAX_FILES + 1), key=lambda entry: entry[0])
    except OSError as error:
        raise UnusableFolder(f"{error.filename} cannot be read: {error.strerror}; check its permissions") from None
    if len(files) > MAX_FILES:
        raise UnusableFolder(f"has more than {MAX_FILES} files; move what is not part of the plugin elsewhere")
    digest = hashlib.sha256()
    for path, status in files:
        digest.update(f"{os.path.relpath(path, folder)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _files(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in _LEFT_OUT:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            else:
                yield entry.path, entry.stat(follow_symlinks=False)
