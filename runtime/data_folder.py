"""The runtime's own folder: one runtime at a time, and a place for plugins that an operator adds."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portway.rpc.errors import Reason, WrongState

PLUGINS = "plugins"
ENVIRONMENTS = "environments"
KEPT = "plugin-data"
INSTALLED = "installed"
_LOCK = "runtime.lock"


@contextmanager
def open_data_folder(folder: Path) -> Iterator[None]:
    """Makes the folder where it is missing and keeps it for the time of the block. Raises `WrongState`."""
    try:
        (folder / PLUGINS).mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise WrongState(
            f"the data folder {folder} cannot be used ({error.strerror}: {error.filename}); "
            "let the user that runs Portway write there, or choose another with --data",
            reason=Reason.NOT_CONFIGURED,
        ) from None
    try:
        _lock(descriptor, folder)
        yield
    finally:
        # The kernel gives the lock back, also when the process is killed.
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WrongState(
            f"the data folder {folder} is in use by another plugin runtime; stop it, or choose another with --data",
            reason=Reason.IN_USE,
        ) from None
