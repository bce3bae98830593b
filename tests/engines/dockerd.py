"""A real Docker engine for one test run: started by the first test that asks, shared by its workers, ended after them.

It has its own socket, data, containerd and control group, and no network. `guardian.py` holds it: whatever happens to
the test run, the engine ends when the last process of the run is gone, with everything that it left.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from portway.box.isolation.syscalls import effective_capabilities
from tests.engines.guardian import daemon_command
from tests.engines.rootfs import IMAGE, why_no_root

_SECONDS = 120.0
_ADMIN = 1 << 21
_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"{os.getpid()}-{time.time_ns()}"


@dataclass(frozen=True, slots=True)
class Dockerd:
    """An engine that answers. `image` is the name of an image in it."""

    socket: str
    image: str
    pid_file: Path

    @property
    def pid(self) -> int:
        return int(self.pid_file.read_text())

    def is_gone(self, pid: int) -> bool:
        """Whether its process with this id has ended, be it not reaped yet."""
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
        except (FileNotFoundError, ProcessLookupError):
            return True

    def start_again(self) -> None:
        """After its end, on the same data; it answers a little later. Its guardian ends this one too."""
        folder = self.pid_file.parent
        with (folder / "dockerd.log").open("ab") as log:
            command = daemon_command(folder)
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        process.returncode = 0  # nobody here waits for its end


def why_no_docker() -> str:
    """Why no engine can be started here; empty where one can, or where trying is the only way to know."""
    missing = [name for name in ("dockerd", "containerd", "runc") if shutil.which(name) is None]
    if missing:
        return f"no Docker engine: {', '.join(missing)} is not installed (the package docker.io)"
    if os.geteuid() != 0 or not effective_capabilities() & _ADMIN:
        return "no Docker engine: starting one needs a test run as root, with root's capabilities"
    return why_no_root() or _start()[1]


def docker_engine() -> Dockerd:
    """The engine of this test run; only where `why_no_docker` has nothing to say."""
    engine, reason = _start()
    assert engine is not None, reason
    return engine


def own_engine(name: str, **settings: bool) -> "tuple[Dockerd | None, str]":
    """Another one, for a test that ends it; `settings` as in its file, with `_` for `-`."""
    folder = Path(f"/tmp/pw-engine-{hashlib.sha256(f'{_RUN}{name}'.encode()).hexdigest()[:10]}")
    folder.mkdir(mode=0o711, exist_ok=True)
    told = {key.replace("_", "-"): value for key, value in settings.items()}
    (folder / "daemon.json").write_text(json.dumps(told))
    return _started(folder)


@cache
def _start() -> tuple[Dockerd | None, str]:
    return _started(Path(f"/tmp/pw-engine-{hashlib.sha256(_RUN.encode()).hexdigest()[:10]}"))


def _started(folder: Path) -> tuple[Dockerd | None, str]:
    folder.mkdir(mode=0o711, exist_ok=True)
    # Held as long as this process lives: the guardian waits until nobody holds it.
    users = os.open(folder / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(users, fcntl.LOCK_SH)
    starting = os.open(folder / "starting", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(starting, "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = folder / "said"
        if not said.exists():
            with (folder / "guardian.log").open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.engines.guardian", str(folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    cwd=Path(__file__).resolve().parents[2],
                )
            _wait(said, process)
        reason = said.read_text()
    engine = Dockerd(f"{folder}/docker.sock", IMAGE, folder / "docker.pid")
    return (None, f"no Docker engine: {reason}") if reason else (engine, "")


def _wait(said: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _SECONDS
    while not said.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            with contextlib.suppress(FileExistsError):
                said.write_text(f"it did not start, see {said.parent}/guardian.log")
            return
        time.sleep(0.02)
    # It outlives this process; nobody here waits for its end.
    process.returncode = 0
