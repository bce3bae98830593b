"""Where everything that `portway up` needs lies below its data folder."""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class StartError(Exception):
    """Portway cannot start. The text says what is wrong, where, and what to do."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below the data folder. `run` holds what a start makes anew; the rest stays."""

    data: Path

    @property
    def run(self) -> Path:
        return self.data / "run"

    @property
    def admin_token(self) -> Path:
        return self.data / "admin.token"

    @property
    def adapter_token(self) -> Path:
        return self.data / "web-chat.token"

    @property
    def ready(self) -> Path:
        return self.run / "ready.json"

    @property
    def admins(self) -> Path:
        """Hashes of administrators' tokens, which the host keeps up to date for the other parts."""
        return self.run / "admins.json"

    @property
    def pass_keys(self) -> Path:
        """Public keys of the tokens that the host signs for the box."""
        return self.run / "pass-keys.json"

    def of(self, part: str) -> Path:
        """The folder that a part may call its own."""
        return self.data / part

    def ready_of(self, part: str) -> Path:
        return self.run / f"{part}.ready.json"

    def credential(self, part: str) -> Path:
        """The token with which the host speaks to a part."""
        return self.run / f"{part}.credential"

    def accepted(self, part: str) -> Path:
        """The hashes of the tokens that a part accepts."""
        return self.run / f"{part}.accepted.json"


def prepare(layout: Layout) -> None:
    """Make the folders, readable by nobody else."""
    try:
        for folder in (layout.data, layout.run):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        layout.run.chmod(0o700)
        write_private(layout.run / "writable", "")
    except OSError as error:
        raise StartError(
            f"data folder {layout.data}: cannot be written ({error.strerror}); "
            "make it writable for this user or choose another one with --data"
        ) from error


def lock(layout: Layout) -> int:
    """Take the folder for this process alone; the descriptor holds the lock for as long as the process lives."""
    descriptor = os.open(layout.run / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.read(descriptor, 32).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise StartError(
            f"data folder {layout.data}: another `portway up` (process {owner}) already runs on it; "
            "stop that one first or choose another folder with --data"
        ) from error
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step; it is never readable by anybody else."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def write_json(path: Path, content: Mapping[str, object]) -> None:
    write_private(path, json.dumps(content, indent=2) + "\n")


def current_pointer(environment: Mapping[str, str]) -> Path:
    """Where the command line finds the ready file of the last start, so that a person need not say where it runs."""
    state = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "portway" / "current.json"


def remember_current(layout: Layout, environment: Mapping[str, str]) -> None:
    """Note where this start's ready file lies. A home folder that cannot be written only costs the convenience."""
    pointer = current_pointer(environment)
    try:
        pointer.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(pointer, {"ready_file": str(layout.ready)})
    except OSError:
        return
