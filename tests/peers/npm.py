"""Installs the Node.js programs of `package-lock.json` once per lock file, outside of the repository."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).parent
HARNESSES = HERE / "harnesses"
ACP_AGENTS = HERE / "acp"
N8N = HERE / "n8n"
_FILES = ("package.json", "package-lock.json")
# The mock imports what Node.js 18 does not have.
_NODE = 20


class PeerMissing(RuntimeError):
    """A program that the heavy tests need is not here; the message says how to get it."""


def installed_peers(lock_folder: Path = HERE, *, built: Sequence[str] = (), seconds: float = 300) -> Path:
    """The folder whose `node_modules/.bin` holds the programs. Several test processes may ask at the same time.

    Packages run no scripts; those in `built` are compiled here, from their own sources. Raises `PeerMissing`.
    """
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
            _install(npm, lock_folder, folder, built, seconds)
    return folder


def _install(npm: str, lock_folder: Path, folder: Path, built: Sequence[str], seconds: float) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in _FILES:
        shutil.copy(lock_folder / name, folder / name)
    _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder, seconds)
    for name in built:
        _run([npm, "rebuild", name, "--build-from-source"], folder, seconds)
    (folder / "complete").touch()


def _run(command: list[str], folder: Path, seconds: float) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise PeerMissing(f"{' '.join(command)} took longer than {seconds:g} s in {folder}") from None
    if done.returncode != 0:
        raise PeerMissing(f"{' '.join(command)} failed in {folder}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
