"""The box's own folder: one server at a time, an id for what it makes in the kernel, an earlier life ended."""

import fcntl
import json
import os
import secrets
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from portway.rpc.errors import WrongState

_LAUNCHER_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Installation:
    """`launcher_lock` is an open, locked descriptor that the launcher process inherits and holds until it is gone."""

    data: Path
    identity: str
    server_lock: int
    launcher_lock: int

    def note_launcher(self, pid: int) -> None:
        """Writes down which process the launcher is, for the next start to end it where it hangs."""
        note = self.data / "launcher.json"
        writing = note.with_suffix(".new")
        writing.write_text(json.dumps({"pid": pid, "start_time": _start_time(pid)}))
        writing.rename(note)

    def close(self) -> None:
        os.close(self.launcher_lock)
        os.close(self.server_lock)


def take(data: Path) -> Installation:
    """Takes the folder for this server. Raises `WrongState` where another one has it or it cannot be written to."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(data, 0o700)
        server = _open(data / "lock")
    except OSError as error:
        raise WrongState(
            f"the data folder {data} cannot be used: {error.strerror}; choose another with --data"
        ) from None
    try:
        if not _lock(server):
            owner = os.pread(server, 32, 0).decode(errors="replace").strip() or "unknown"
            raise WrongState(
                f"another box (process {owner}) uses the data folder {data}; stop it, or choose another folder"
            )
        os.truncate(server, 0)
        os.pwrite(server, str(os.getpid()).encode(), 0)
        launcher = _take_from_old_launcher(data)
    except BaseException:
        os.close(server)
        raise
    return Installation(data, _identity(data / "installation"), server, launcher)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _take_from_old_launcher(data: Path) -> int:
    """Waits for the launcher process of a server that was killed: it ends everything by itself, and is ended if not."""
    descriptor = _open(data / "launcher.lock")
    for attempt in range(2):
        deadline = time.monotonic() + _LAUNCHER_PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if _lock(descriptor):
                return descriptor
            time.sleep(0.02)
        if attempt == 0:
            _end_old_launcher(data / "launcher.json")
    os.close(descriptor)
    raise WrongState(
        f"processes of an earlier box on {data} do not end; look for them with `fuser {data}/launcher.lock`"
    )


def _end_old_launcher(note: Path) -> None:
    """Kills the noted process if it is still the same one; the kernel then ends everything that it launched."""
    try:
        noted = json.loads(note.read_text())
        if _start_time(noted["pid"]) == noted["start_time"]:
            os.kill(noted["pid"], signal.SIGKILL)
    except (OSError, ValueError, KeyError):
        return


def _start_time(pid: int) -> int:
    """In clock ticks since the machine started: together with the id it names one process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def _identity(file: Path) -> str:
    if not file.exists():
        writing = file.with_suffix(".new")
        writing.write_text(secrets.token_hex(6))
        writing.rename(file)
    return file.read_text().strip()
