"""Getting things onto the disk whole: written aside, synced, renamed. Blocking."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portway.rpc.errors import LimitExceeded, Reason

_RETRY_SECONDS = 60.0
_FULL = (errno.ENOSPC, errno.EDQUOT)


def replace_file(path: Path, content: bytes) -> None:
    """The file has the old content or the new one, whenever the machine stops."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with room_told(path), aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def sync_tree(folder: Path) -> None:
    """Every folder below; files are synced as they are written."""
    for path, _folders, _files in os.walk(folder, topdown=False):
        sync_folder(Path(path))


def remove_tree(folder: Path) -> None:
    """Out of sight in one step, then away: a kill between the two leaves what the next start removes."""
    aside = folder.with_name(f".gone-{os.urandom(8).hex()}")
    try:
        folder.rename(aside)
    except FileNotFoundError:
        return
    shutil.rmtree(aside, ignore_errors=True)


def check_room(folder: Path, needed: int, reserve: int) -> None:
    """Raises `LimitExceeded` with reason DISK_FULL where so many bytes would leave less than the reserve."""
    free = shutil.disk_usage(folder).free
    if free < needed + reserve:
        mebibyte = 1024 * 1024
        raise LimitExceeded(
            f"the disk of {folder} has {free // mebibyte} MiB left, and {needed // mebibyte} MiB are needed beside the "
            f"{reserve // mebibyte} MiB that stay free (runtime.installing.reserve_mb); make room and try again",
            reason=Reason.DISK_FULL,
            retry_after=_RETRY_SECONDS,
        )


@contextmanager
def room_told(place: Path) -> Iterator[None]:
    """A disk that is full amid writing is told as such. Raises `LimitExceeded`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise LimitExceeded(
            f"the disk of {place.parent} is full; nothing was changed. Make room and try again",
            reason=Reason.DISK_FULL,
            retry_after=_RETRY_SECONDS,
        ) from None
