"""What this machine has for Portway: each check tells what is missing, what it costs and what to do."""

import os
import platform
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_PROBE_SECONDS = 10
_OPENAT2_KERNEL = (5, 6)


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check. `advice` is empty where all is well; without what is `needed` nothing works at all."""

    name: str
    ok: bool
    told: str
    advice: str = ""
    needed: bool = False
    cost: str = ""


def check_python() -> Finding:
    # An older Python cannot install this package, so finding one needs no advice.
    return Finding("python", True, f"{platform.python_version()} ({sys.executable})", needed=True)


def check_sqlite() -> Finding:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE probe USING fts5(words)")
    except sqlite3.OperationalError:
        return Finding("sqlite", False, sqlite3.sqlite_version, "install a Python whose SQLite has FTS5", needed=True)
    finally:
        connection.close()
    return Finding("sqlite", True, f"{sqlite3.sqlite_version} with FTS5", needed=True)


def check_kernel() -> Finding:
    release = platform.release()
    if platform.system() != "Linux":
        return Finding("kernel", False, platform.system(), "the box needs Linux; everything else works without it")
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if numbers < _OPENAT2_KERNEL:
        return Finding("kernel", False, release, "files of sandboxes need Linux 5.6 or newer (openat2)")
    return Finding("kernel", True, release)


def check_bubblewrap() -> Finding:
    program = shutil.which("bwrap")
    if program is None:
        return Finding("bubblewrap", False, "not found", "install bubblewrap; without it no command can run in the box")
    sandbox = [program, "--ro-bind", "/", "/", "--unshare-all", "--die-with-parent", "true"]
    try:
        tried = subprocess.run(sandbox, capture_output=True, timeout=_PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("bubblewrap", False, str(error), "no sandbox can be started; see docs/box.md")
    if tried.returncode != 0:
        said = tried.stderr.decode("utf-8", "replace").strip()[:200]
        advice = "user namespaces seem to be restricted; see docs/box.md for how to allow them"
        return Finding("bubblewrap", False, said, advice)
    version = subprocess.run(
        [program, "--version"], capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False
    )
    return Finding("bubblewrap", True, version.stdout.strip())


def check_limits() -> Finding:
    """Whether memory, processor and process limits of whole sessions can be enforced."""
    if os.geteuid() == 0 and (_writable("/sys/fs/cgroup/memory") or _writable("/sys/fs/cgroup")):
        return Finding("limits", True, "control groups can be made")
    advice = (
        "the box runs without control groups: memory, processor and process limits hold for each process, "
        "not for a whole session; run it as root to have them"
    )
    return Finding("limits", False, "no control groups", advice)


def check_docker() -> Finding:
    if Path("/var/run/docker.sock").exists():
        return Finding("docker", True, "engine socket found")
    return Finding("docker", True, "no engine; not needed, the namespace backend is the default")


def _writable(path: str) -> bool:
    return os.access(path, os.W_OK)


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_sqlite,
)
BOX_CHECKS: tuple[Callable[[], Finding], ...] = (
    check_kernel,
    check_bubblewrap,
    check_limits,
    check_docker,
)
"""What is looked at here where no box can be asked."""
