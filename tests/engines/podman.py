"""A real Podman service for one test: its own storage, no cgroup manager of the system, ended by its id."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker

from portway.box.isolation.syscalls import effective_capabilities
from tests.engines.rootfs import root_tar, why_no_root

_SECONDS = 120.0
_ADMIN = 1 << 21


@dataclass(frozen=True, slots=True)
class Podman:
    """A service that answers, and the name of an image in it."""

    socket: str
    image: str


def why_no_podman() -> str:
    """Why none can be started here; empty where one can."""
    if missing := [name for name in ("podman", "conmon", "runc") if shutil.which(name) is None]:
        return f"no Podman: {', '.join(missing)} is not installed"
    if os.geteuid() != 0 or not effective_capabilities() & _ADMIN:
        return "no Podman: its service is tried as root only, with root's capabilities"
    return why_no_root()


@contextmanager
def podman_service() -> Iterator[Podman]:
    folder = Path(tempfile.mkdtemp(prefix="pw-podman-", dir="/tmp"))
    (folder / "containers.conf").write_text("[containers]\ndefault_ulimits = []\n[engine]\nevents_logger = 'file'\n")
    (folder / "storage.conf").write_text(
        f"[storage]\ndriver = 'vfs'\nrunroot = '{folder}/run'\ngraphroot = '{folder}/graph'\n"
    )
    own = {"CONTAINERS_CONF": f"{folder}/containers.conf", "CONTAINERS_STORAGE_CONF": f"{folder}/storage.conf"}
    command = ["podman", "--runtime", "runc", "--cgroup-manager=cgroupfs", "--tmpdir", f"{folder}/tmp"]
    service = ["system", "service", "--time=0", f"unix://{folder}/podman.sock"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **own}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *service], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield Podman(f"{folder}/podman.sock", _import(folder, process))
    finally:
        for words in (["rm", "-a", "-f"], ["rmi", "-a", "-f"]):
            subprocess.run([*command, *words], env=environment, capture_output=True, timeout=60)
        process.terminate()
        process.wait(30)
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if line.split()[4].startswith(f"{folder}/"):
                subprocess.run(["umount", "-l", line.split()[4]], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def _import(folder: Path, process: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + _SECONDS
    while not (folder / "podman.sock").exists():
        assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.05)
    client = docker.APIClient(base_url=f"unix://{folder}/podman.sock", version="1.41", timeout=120)
    try:
        client.import_image_from_file(str(root_tar()), repository="portway-test", tag="latest")
        return str(client.images()[0]["RepoTags"][0])
    finally:
        client.close()
