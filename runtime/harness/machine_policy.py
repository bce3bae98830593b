"""What the operator allows on this machine itself: nothing, unless the settings of the runtime say otherwise."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from portway.runtime.harness.allowances import HOST_HARNESS
from portway.runtime.harness.failures import NO_PLACE
from portway.runtime.sdk import RunFailure

_DEEPEST = 256


@dataclass(frozen=True, slots=True)
class MachinePolicy:
    """`working_directories` are roots: they and what is beneath them."""

    working_directories: Sequence[str]
    workspace_days: float


def machine_policy() -> MachinePolicy:
    """Raises `RunFailure` (`harness.no_place`) where the operator allows nothing."""
    said = json.loads(os.environ.get(HOST_HARNESS) or "{}")
    if not said.get("enabled"):
        raise RunFailure(
            NO_PLACE,
            "config.where is `machine`, and the operator of this machine does not allow it: set runtime.host_harness "
            "(enabled, working_directories), or let the program run in its box session",
        )
    return MachinePolicy(tuple(said["working_directories"]), float(said["workspace_days"]))


@contextmanager
def allowed_directory(directory: str, policy: MachinePolicy) -> Iterator[int]:
    """A descriptor of the directory, which is what is used from then on. Raises `RunFailure`.

    The kernel resolves the path, once; then the way up from what it found must meet one of the allowed roots, by
    device and inode. Names, links and `..` in the path decide nothing.
    """
    try:
        found = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _refused(directory, getattr(error, "strerror", None) or "cannot be opened") from error
    try:
        if not _is_beneath(found, {_identity(root) for root in policy.working_directories} - {None}):
            raise _refused(directory, "is not beneath a directory that the operator allows")
        yield found
    finally:
        os.close(found)


def _is_beneath(directory: int, roots: set[tuple[int, int] | None]) -> bool:
    at = os.dup(directory)
    try:
        for _ in range(_DEEPEST):
            here = os.fstat(at)
            if (here.st_dev, here.st_ino) in roots:
                return True
            above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = above
            parent = os.fstat(at)
            if (parent.st_dev, parent.st_ino) == (here.st_dev, here.st_ino):
                return False
        return False
    finally:
        os.close(at)


def _identity(root: str) -> tuple[int, int] | None:
    try:
        there = os.stat(root)
    except OSError:
        return None
    return there.st_dev, there.st_ino


def _refused(directory: str, why: str) -> RunFailure:
    return RunFailure(
        NO_PLACE,
        f"the working directory {directory!r} {why}; choose one beneath runtime.host_harness.working_directories",
    )
