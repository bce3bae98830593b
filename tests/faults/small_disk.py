"""Disks of a test's own, in a mount namespace: `python -m tests.faults.small_disk tmpfs|ext4 FOLDER IMAGE COMMAND …`.

Mounts, then becomes the command. Nobody else sees the mount, and it goes with the last process of the namespace.
"""

import ctypes
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

SIZE = 112 * 1024 * 1024
_NAMESPACE = ["unshare", "--mount", "--propagation", "private"]


def within(kind: str, folder: Path, image: Path | None = None) -> list[str]:
    """What stands before a command that is to have such a disk at the folder."""
    return [*_NAMESPACE, sys.executable, "-m", "tests.faults.small_disk", kind, str(folder), str(image or "none")]


@cache
def why_not(kind: str) -> str:
    """Empty where this machine lets us mount."""
    if os.geteuid() != 0:
        return "only root may mount"
    place = Path(os.environ.get("TMPDIR", "/tmp"))
    image = place / f"portway-try-{os.getpid()}.img"
    try:
        if kind == "ext4":
            make_image(image)
        tried = subprocess.run(
            [*within(kind, Path("/mnt"), image), "true"], capture_output=True, text=True, check=False
        )
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        return str(error)
    finally:
        image.unlink(missing_ok=True)
    return tried.stderr.strip()[-300:] if tried.returncode else ""


def make_image(path: Path, size: int = 96 * 1024 * 1024) -> None:
    """An empty ext4 in a file."""
    with path.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(path)], check=True, capture_output=True)


def _mount_tmpfs(folder: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"small", os.fsencode(folder), b"tmpfs", 0, f"size={SIZE},mode=0700".encode()):
        raise OSError(ctypes.get_errno(), "mount")


def main() -> None:
    kind, folder, image, *command = sys.argv[1:]
    if kind == "tmpfs":
        _mount_tmpfs(folder)
    else:
        subprocess.run(["mount", "-o", "loop", image, folder], check=True)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
