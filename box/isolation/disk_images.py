"""Workspaces as file systems of their own: sparse ext4 images, so that the kernel bounds both bytes and files."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

from portway.rpc.errors import LimitExceeded, Unavailable

_TOOL_TIMEOUT_SECONDS = 60


def find_tool(name: str) -> str | None:
    """A system program that may lie outside the search path of a plain user."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")


class ImageMaker:
    """Makes images by copying a template for each size: formatting costs tens of milliseconds, a sparse copy one."""

    def __init__(self, templates: Path) -> None:
        self._templates = templates
        templates.mkdir(mode=0o700, parents=True, exist_ok=True)

    def open(self, image: Path, *, size: int, inodes: int, journal: bool) -> int:
        """A descriptor of an image: of the one that is there, repaired where it was in use, or of a new one."""
        if image.exists():
            self.check(image)
        else:
            self.make(image, size=size, inodes=inodes, journal=journal)
        return os.open(image, os.O_RDWR | os.O_CLOEXEC)

    def make(self, image: Path, *, size: int, inodes: int, journal: bool) -> None:
        """An empty file system of `size` bytes for at most `inodes` files."""
        template = self._templates / f"{size}-{inodes}-{'j' if journal else 'n'}.ext4"
        if not template.exists():
            self._format(template, size, inodes, journal)
        copying = image.with_suffix(".new")
        _copy_sparse(template, copying)
        copying.rename(image)

    def _format(self, template: Path, size: int, inodes: int, journal: bool) -> None:
        tool = find_tool("mkfs.ext4")
        if tool is None:
            raise Unavailable("mkfs.ext4 is not installed; install e2fsprogs")
        making = template.with_suffix(f".{os.getpid()}.{os.urandom(4).hex()}")
        with making.open("wb") as file:
            file.truncate(size)
        features = "^resize_inode" if journal else "^resize_inode,^has_journal"
        # No reserved blocks, and no lazy start, which would write later in the kernel's own time.
        options = ["-q", "-F", "-m", "0", "-N", str(inodes), "-b", "4096", "-O", features]
        options += ["-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", "-I", "256"]
        done = subprocess.run([tool, *options, str(making)], capture_output=True, timeout=_TOOL_TIMEOUT_SECONDS)
        if done.returncode != 0:
            making.unlink()
            said = done.stderr.decode(errors="replace").strip()
            said = said.replace(str(making), "the image")
            raise Unavailable(f"a workspace of {size} bytes with {inodes} files cannot be formatted: {said}")
        making.rename(template)

    @staticmethod
    def check(image: Path) -> None:
        """Repairs an image that was in use when the machine or the box went down."""
        tool = find_tool("e2fsck")
        if tool is None:
            raise Unavailable("e2fsck is not installed; install e2fsprogs")
        done = subprocess.run([tool, "-p", str(image)], capture_output=True, timeout=_TOOL_TIMEOUT_SECONDS)
        if done.returncode >= 4:
            done = subprocess.run([tool, "-fy", str(image)], capture_output=True, timeout=_TOOL_TIMEOUT_SECONDS)
        if done.returncode >= 4:
            said = done.stderr.decode(errors="replace").strip()
            said = said.replace(str(image), image.name)
            raise Unavailable(f"the workspace image {image.name} is damaged and could not be repaired: {said}")


def _copy_sparse(source: Path, target: Path) -> None:
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _copy_data(reading, writing)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise LimitExceeded(
                    "the disk of the box is full: a workspace cannot be made; delete sessions"
                ) from None
            raise
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_data(reading: int, writing: int) -> None:
    size = os.fstat(reading).st_size
    os.ftruncate(writing, size)
    position = 0
    while position < size:
        try:
            begin = os.lseek(reading, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        end = position = os.lseek(reading, begin, os.SEEK_HOLE)
        while begin < end:
            copied = os.copy_file_range(reading, writing, end - begin, begin, begin)
            if copied == 0:
                return
            begin += copied
