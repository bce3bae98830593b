"""A small root file system of Debian, made once with debootstrap and kept in the user's cache folder."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

IMAGE = "portway-test:bookworm"
SUITE = "bookworm"
# What tests run inside, beside the essential packages.
_INCLUDED = "python3"
_SECONDS = 600


def _tar() -> Path:
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache_home / "portway-tests" / f"{SUITE}-minbase-{_INCLUDED}.tar"


@cache
def why_no_root() -> str:
    """Why there is no root file system; makes it where it is not there."""
    tar = _tar()
    if tar.exists():
        return ""
    if shutil.which("debootstrap") is None:
        return "no root file system for containers: debootstrap is not installed"
    tar.parent.mkdir(parents=True, exist_ok=True)
    with (tar.parent / "making").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return "" if tar.exists() else _make(tar)


def root_tar() -> Path:
    """A tar with the root of a small Debian, only where `why_no_root` has nothing to say."""
    return _tar()


def _make(tar: Path) -> str:
    with tempfile.TemporaryDirectory(prefix="portway-root-") as folder:
        root = Path(folder) / "root"
        made = _run(["debootstrap", "--variant=minbase", f"--include={_INCLUDED}", SUITE, str(root)])
        if made is None:
            return "no root file system for containers: debootstrap took too long"
        if made.returncode != 0:
            said = (made.stdout + made.stderr).decode(errors="replace").strip().splitlines()
            return f"no root file system for containers: debootstrap failed: {said[-1] if said else 'without a word'}"
        for path in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"):
            shutil.rmtree(root / path, ignore_errors=True)
        writing = tar.with_suffix(f".{os.getpid()}")
        packed = _run(["tar", "-C", str(root), "--numeric-owner", "-cf", str(writing), "."])
        if packed is None or packed.returncode != 0:
            writing.unlink(missing_ok=True)
            return "no root file system for containers: it could not be packed"
        writing.rename(tar)
    return ""


def _run(command: list[str]) -> "subprocess.CompletedProcess[bytes] | None":
    try:
        return subprocess.run(command, capture_output=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return None
