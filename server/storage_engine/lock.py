"""One host per data folder: a lock that the kernel gives back when the process ends, however it ends."""

import fcntl
import os
import socket
from pathlib import Path
from types import TracebackType

from portway.rpc.errors import Reason, WrongState


class FolderLock:
    """Held while the database is open. A second holder is refused with the name of the first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> "FolderLock":
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise WrongState(
                f"The lock file {self._path} cannot be opened ({error.strerror}). It must belong to the user that runs "
                "Portway.",
                reason=Reason.NOT_CONFIGURED,
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode("utf-8", "replace").strip() or "unknown"
            os.close(descriptor)
            raise WrongState(
                f"The data folder {self._path.parent} is in use by another Portway host ({holder}). Stop that one "
                "first, or start this one with another data folder.",
                reason=Reason.IN_USE,
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    @property
    def identity(self) -> str:
        """The locked file among all files of all machines: whoever holds the lock is the only process that has it."""
        status = os.fstat(self._descriptor)
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{status.st_dev}:{status.st_ino}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The file stays: removing it would let a third process lock a name that the second no longer sees.
        os.close(self._descriptor)
