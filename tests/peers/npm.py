"""Installs the Node.js programs of `package-lock.json` once per lock file, outside of the repository."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
HARNESSES = HERE / "harnesses"
ACP_AGENTS = HERE / "acp"
_FILES = ("package.json", "package-lock.json")
# The mock imports what Node.js 18 does not have.
_NODE = 20


class PeerMissing(RuntimeError):
    """A program that the heavy tests need is not here; the message says how to get it."""


def installed_peers(lock_folder: Path = HERE) -> Path:
    """The folder whose `node_modules/.bin` holds the programs. Several test processes may ask at the same time."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("npm and node are not on the PATH: install Node.js to run the tests against the mock of the models")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").partition(".")[0]) < _NODE:
        pytest.skip(f"Node.js is {version}: the mock of the models needs {_NODE} or newer")
    digest = hashlib.sha256(b"".join((lock_folder / name).read_bytes() for name in _FILES)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "portway-test-peers"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / digest
    with (cache / f"{digest}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _install(npm, lock_folder, folder)
    return folder


def _install(npm: str, lock_folder: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in _FILES:
        shutil.copy(lock_folder / name, folder / name)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise PeerMissing(f"{' '.join(command)} failed in {folder}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    (folder / "complete").touch()
