"""Downloads the wheels of a lock file once, for installing them where there is no network."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.peers.npm import PeerMissing

HERE = Path(__file__).parent
PYTHON = "/usr/bin/python3"


def downloaded_wheels(lock_file: str) -> Path:
    """A folder with the wheels for the machine's own Python, named by the lock's digest."""
    lock = HERE / lock_file
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "portway-test-wheels"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / digest
    with (cache / f"{digest}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _download(lock, folder)
    return folder


def _download(lock: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    command = [PYTHON, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
    command += ["--require-hashes", "-r", str(lock), "-d", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise PeerMissing(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    (folder / "complete").touch()
