"""Holds a Docker engine for a test run: `python -m tests.engines.guardian FOLDER`.

Starts it, says in `FOLDER/said` why it did not (empty: it answers), waits until nobody holds `FOLDER/users`, and then
takes away everything: processes, mounts, control groups, the folder.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import docker

from portway.box.isolation import syscalls
from tests.engines.rootfs import IMAGE, root_tar

_SECONDS = 120.0


def daemon_command(folder: Path) -> list[str]:
    """Starts an engine that has everything in the folder, and no network."""
    own = [
        *("--host", f"unix://{folder}/docker.sock", "--pidfile", str(folder / "docker.pid")),
        *("--data-root", str(folder / "data"), "--exec-root", str(folder / "exec")),
        *("--config-file", str(folder / "daemon.json"), "--cgroup-parent", f"/{folder.name}"),
    ]
    without = ["--iptables=false", "--ip6tables=false", "--bridge=none", "--ip-forward=false", "--ip-masq=false"]
    return ["dockerd", *own, *without, "--exec-opt", "native.cgroupdriver=cgroupfs", "--log-level", "warn"]


class Guardian:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._group = folder.name
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Why it does not answer; empty where it does."""
        folder = self._folder
        if not (folder / "daemon.json").exists():
            (folder / "daemon.json").write_text(json.dumps({}))
        with (folder / "dockerd.log").open("ab") as log:
            self._daemon = subprocess.Popen(daemon_command(folder), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            return self._import() if self._answers() else f"it did not start: {self._last_words()}"
        except docker.errors.DockerException as error:
            return f"it did not take a root file system: {error}"

    def _answers(self) -> bool:
        deadline = time.monotonic() + _SECONDS
        while self._daemon is not None and self._daemon.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(docker.errors.DockerException, OSError), self._client() as client:
                if client.ping():
                    return True
            time.sleep(0.05)
        return False

    @contextlib.contextmanager
    def _client(self):  # type: ignore[no-untyped-def] # the SDK publishes no types
        client = docker.APIClient(base_url=f"unix://{self._folder}/docker.sock", version="1.41", timeout=120)
        try:
            yield client
        finally:
            client.close()

    def _import(self) -> str:
        name, _, tag = IMAGE.partition(":")
        with self._client() as client:
            client.import_image_from_file(str(root_tar()), repository=name, tag=tag)
        return ""

    def _last_words(self) -> str:
        lines = (self._folder / "dockerd.log").read_text(errors="replace").strip().splitlines()
        return lines[-1][-300:] if lines else "without a word"

    def take_orphans(self) -> None:
        """What a killed engine leaves is reaped here: the next one takes a dead containerd for alive."""
        syscalls.set_child_subreaper()
        signal.signal(signal.SIGCHLD, lambda _number, _frame: _reap())

    def wait_until_nobody_is_left(self) -> None:
        users = os.open(self._folder / "users", os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(users, fcntl.LOCK_EX)

    def end(self) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _reap()
        with contextlib.suppress(docker.errors.DockerException, OSError), self._client() as client:
            for container in client.containers(all=True):
                client.remove_container(container["Id"], v=True, force=True)
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _SECONDS / 4
        while self._pids() and time.monotonic() < deadline:
            if self._daemon is not None:
                self._daemon.poll()
            time.sleep(0.05)
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._unmount()
        self._remove_groups()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _pids(self) -> list[int]:
        """The engine, its containerd, and what they started beside containers: all of them name the folder."""
        found = []
        for directory in Path("/proc").iterdir():
            if directory.name.isdigit() and int(directory.name) != os.getpid():
                with contextlib.suppress(OSError):
                    words = (directory / "cmdline").read_bytes().split(b"\0")
                    if words[0].startswith((b"dockerd", b"containerd", b"/usr/bin/containerd")) and any(
                        str(self._folder).encode() in word for word in words
                    ):
                        found.append(int(directory.name))
        return found

    def _unmount(self) -> None:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        for line in reversed(lines):
            place = line.split()[4]
            if place.startswith(f"{self._folder}/"):
                subprocess.run(["umount", "-l", place], check=False, capture_output=True)

    def _remove_groups(self) -> None:
        for directory, names, _files in os.walk("/sys/fs/cgroup"):
            if self._group in names:
                for path, _names, _inside in os.walk(Path(directory) / self._group, topdown=False):
                    with contextlib.suppress(OSError):
                        os.rmdir(path)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def main() -> None:
    guardian = Guardian(Path(sys.argv[1]))
    said = Path(sys.argv[1]) / "said"
    reason = guardian.start()
    guardian.take_orphans()
    writing = said.with_suffix(".new")
    writing.write_text(reason)
    writing.rename(said)
    guardian.wait_until_nobody_is_left()
    guardian.end()


if __name__ == "__main__":
    main()
