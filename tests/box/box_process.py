"""A real box server in a process of its own, as root or as a plain user."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from portway.box.backends.namespace.machine import Machine
from portway.rpc.tokens import MintedToken, mint_token
from tests.engines.dockerd import docker_engine, why_no_docker

ROOT, UNPRIVILEGED = "root", "unprivileged"
# A box of root whose sessions are containers.
DOCKER = "docker"
PLAIN_USER = 54_321
_START_SECONDS = 120.0
_STOP_SECONDS = 120.0
_REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class BoxProcess:
    """Where a box is, and how to stop, kill and start it again on the same data. `through` starts its program."""

    folder: Path
    mode: str
    tokens: Mapping[str, MintedToken]
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    address: str = ""
    through: Sequence[str] = ()
    listen: str = "127.0.0.1:0"

    @property
    def has_image(self) -> bool:
        """Whether the root of its sessions is an image's, and not the machine's own system."""
        return self.mode == DOCKER

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        self.spawn()
        self.wait_ready()

    def spawn(self) -> None:
        """Starts it without waiting."""
        (self.folder / "ready.json").unlink(missing_ok=True)
        config = self.folder / "config.yaml"
        config.write_text(yaml.safe_dump({"box": {**backend_settings(self.mode), **self.settings}}))
        with (self.folder / "box.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.through, *interpreter(self.mode), "-m", "portway.box", *self.flags()],
                env=self.whole_environment(),
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )

    def whole_environment(self) -> dict[str, str]:
        given = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **self.environment}
        return given | plain_environment(self.mode)

    def flags(self) -> list[str]:
        folder = self.folder
        return [
            *("--listen", self.listen, "--data", str(self.data), "--config", str(folder / "config.yaml")),
            *("--credentials", str(folder / "credentials.json"), "--ready-file", str(folder / "ready.json")),
        ]

    def wait_ready(self) -> None:
        assert self.process is not None
        ready = self.folder / "ready.json"
        deadline = time.monotonic() + _START_SECONDS
        while not ready.exists():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.01)
        self.address = json.loads(ready.read_text())["address"]

    def wait_ended(self) -> int:
        assert self.process is not None
        return self.process.wait(_STOP_SECONDS)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Asks it to end, and what it ended with."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            raise AssertionError(f"the box did not stop: {self.log()}") from None

    def log(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "box.log").read_text(errors="replace")[-6000:]
        return ""

    def launcher_pids(self) -> list[int]:
        """The launcher process and its guard."""
        guard = json.loads((self.data / "launcher.json").read_text())["pid"]
        return [guard, *children_of(guard)]


def children_of(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


@contextmanager
def box_process(
    mode: str, *, settings: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[BoxProcess]:
    """A box that is not started yet, in a folder of its own that its user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="portway-box-test-"))
    tokens = {role: mint_token(role) for role in ("admin", "service", "viewer", "member", "foreign")}
    entries = [
        _entry(tokens["admin"], "admin", "*"),
        _entry(tokens["service"], "box", "*"),
        _entry(tokens["viewer"], "viewer", "default"),
        _entry(tokens["member"], "member", "default"),
        _entry(tokens["foreign"], "operator", "elsewhere"),
    ]
    credentials = folder / "credentials.json"
    credentials.touch(0o600)
    credentials.write_text(json.dumps({"tokens": entries}))
    if mode == UNPRIVILEGED and os.geteuid() == 0:
        for path in (folder, credentials):
            os.chown(path, PLAIN_USER, PLAIN_USER)
    box = BoxProcess(folder, mode, tokens, settings or {}, environment or {})
    try:
        yield box
    finally:
        if box.process is not None:
            box.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _entry(token: MintedToken, role: str, workspace_id: str) -> dict[str, str]:
    return {"id": token.token_id, "sha256": token.secret_hash.hex(), "role": role, "workspace_id": workspace_id}


def interpreter(mode: str) -> list[str]:
    """The Python of this test run, as the user that a mode is about."""
    if mode == UNPRIVILEGED and os.geteuid() == 0:
        return [*_as_plain_user(), sys.executable]
    return [sys.executable]


def backend_settings(mode: str) -> dict[str, Any]:
    """What a box needs to be told for its sessions to be what a mode is about."""
    if mode != DOCKER:
        return {"backend": "namespace"}
    engine = docker_engine()
    return {"backend": "docker", "engine": {"docker_socket": engine.socket, "image": engine.image}}


def why_not(mode: str) -> str:
    """Why a mode cannot be tried on this machine; empty where it can."""
    if mode == DOCKER:
        return why_no_docker()
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed"
    if mode == ROOT:
        allowed = Machine.look().root
        return _refused_namespaces(()) if allowed else "root mode needs a test run as root, with root's capabilities"
    return _closed_to_plain_user() or _refused_namespaces(_as_plain_user() if os.geteuid() == 0 else ())


@cache
def _refused_namespaces(user: tuple[str, ...]) -> str:
    """What this machine says when a user asks for namespaces; that of this test run if none is given."""
    tried = subprocess.run(
        [*user, "bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "--proc", "/proc", "true"],
        capture_output=True,
        cwd="/",
    )
    return "" if tried.returncode == 0 else f"namespaces are refused here: {tried.stderr.decode().strip()}"


@cache
def _closed_to_plain_user() -> str:
    """Why a plain user cannot run the code under test; empty where it can."""
    tried = subprocess.run(
        [*interpreter(UNPRIVILEGED), "-c", "import portway.box.app"],
        env={"PATH": os.environ["PATH"]} | plain_environment(UNPRIVILEGED),
        capture_output=True,
        cwd="/",
    )
    return "" if tried.returncode == 0 else f"a plain user cannot run this Python: {tried.stderr.decode().strip()}"


def _as_plain_user() -> tuple[str, ...]:
    user = str(PLAIN_USER)
    identity = ["--reuid", user, "--regid", user, "--clear-groups", "--bounding-set", "-all", "--inh-caps", "-all"]
    # Over a shell: setpriv itself still has root's rights over files when it looks its program up.
    return (*_opened(), "setpriv", *identity, "/bin/sh", "-c", 'exec "$0" "$@"')


def plain_environment(mode: str) -> dict[str, str]:
    """What a plain user's Python needs in its environment: it may not write next to the code."""
    return {"PYTHONDONTWRITEBYTECODE": "1"} if mode == UNPRIVILEGED and os.geteuid() == 0 else {}


@cache
def _opened() -> tuple[str, ...]:
    """Starts a program where the code under test is open to everybody, also when it lies in a closed home directory.

    In a mount namespace of its own the closed directory is covered by an empty one, which shows only the code again.
    """
    shown = [path for path in (_REPOSITORY, Path(sys.prefix), Path(sys.base_prefix)) if _closed_above(path)]
    if not shown:
        return ()
    script = ["set -e"]
    for number, path in enumerate(shown, start=3):
        script.append(f"exec {number}< {shlex.quote(str(path))}")
    for closed in sorted({str(_closed_above(path)) for path in shown}):
        script.append(f"mount -t tmpfs -o mode=755 none {shlex.quote(closed)}")
    for number, path in enumerate(shown, start=3):
        place = shlex.quote(str(path))
        script.append(f"mkdir -p {place}; mount -c --bind /proc/self/fd/{number} {place}; exec {number}<&-")
    script.append('cd "$(pwd)"; exec "$@"')
    return ("unshare", "--mount", "/bin/sh", "-c", "\n".join(script), "sh")


def _closed_above(path: Path) -> Path | None:
    """The topmost directory on the way to a path that other users may not enter."""
    way = [path, *path.parents]
    return next((each for each in reversed(way) if not each.stat().st_mode & 0o001), None)
