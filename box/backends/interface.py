"""The interface that every backend implements; `tests/contracts/backend` runs on each."""

from enum import StrEnum
from typing import Protocol

from portway.box.backends.types import (
    BackendReport,
    CommandSpec,
    Exit,
    FileAccess,
    HeldThing,
    ListenPlace,
    SandboxSpec,
    SandboxUsage,
    SkillMount,
    TerminalSize,
)
from portway.box.images.interface import Images
from portway.rpc.errors import InvalidInput


class Stream(StrEnum):
    """One of the outputs of a command."""

    STDOUT = "stdout"
    STDERR = "stderr"


class NothingRan(InvalidInput):
    """The sandbox came up and found nothing that it could execute as asked, for example no working directory."""


class RunningCommand(Protocol):
    """A command that was started. Whoever holds it calls `close` at the end; that kills what still runs."""

    async def read(self, stream: Stream, limit: int) -> bytes:
        """The next bytes of an output, empty at its end. What is not read holds the command up, and nothing else."""
        ...

    async def write(self, data: bytes) -> None:
        """Gives it input. Returns when the kernel has taken it. Input for a command that ended is dropped; that for one
        that closed it may wait until then."""
        ...

    def close_input(self) -> None: ...

    def resize(self, size: TerminalSize) -> None: ...

    async def signal(self, number: int) -> None:
        """Sends a signal to its process group; nothing happens when it has ended."""
        ...

    async def kill(self) -> None:
        """Kills it and everything that it started."""
        ...

    async def wait(self) -> Exit:
        """Its end, when nothing of it is left. Raises `Unavailable` where the end was not seen: never a success."""
        ...

    async def close(self) -> None: ...


class Search(Protocol):
    """A search over files that runs beside the commands of a sandbox, within its limits."""

    async def read(self, limit: int) -> bytes: ...

    async def close(self) -> None: ...


class Sandbox(Protocol):
    """A sandbox that was made."""

    @property
    def alive(self) -> bool:
        """Whether it can still be used. One that was lost is taken down, and made again with its workspace."""
        ...

    @property
    def unenforced(self) -> tuple[str, ...]:
        """Limits that are not in force for it, in words."""
        ...

    async def start(self, command: CommandSpec) -> RunningCommand:
        """Starts a command. Raises `Unavailable` where the sandbox is lost."""
        ...

    async def search(self, request: bytes, mount: int) -> Search:
        """Runs a file search (see `portway.box.files.search`) in the mount with this index."""
        ...

    async def listen(self, place: ListenPlace) -> int:
        """A listening socket inside, as a descriptor that the caller owns; what runs inside connects to it.

        It does not block. A Unix socket replaces one of the same name, a port that is taken raises `Conflict`. Raises
        `Unavailable` where the sandbox is lost.
        """
        ...

    async def unlisten(self, name: str) -> None:
        """Removes the Unix socket of this name; who listened has closed its descriptor. Raises `Unavailable`."""
        ...

    def files(self) -> FileAccess: ...

    async def show_skills(self, skills: tuple[SkillMount, ...]) -> int:
        """Replaces the skills that commands see which start from now on; workspace and `/tmp` stay.

        Returns how many commands had to be ended for it. Raises `LimitExceeded` where a writable copy does not fit.
        """
        ...

    async def usage(self) -> SandboxUsage: ...

    async def delete(self, *, keep_workspace: bool = False) -> int:
        """Ends everything in it and removes it. Returns how many processes were killed."""
        ...


class Backend(Protocol):
    """A way to isolate."""

    @property
    def name(self) -> str: ...

    @property
    def images(self) -> Images | None:
        """The images that its sandboxes can start from; `None` where it has only a root of its own."""
        ...

    async def probe(self) -> BackendReport:
        """Really runs something; the reason says what is missing and what to do."""
        ...

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """Makes a sandbox, with the workspace that its key had before if there is one. Cancelled, it leaves nothing."""
        ...

    async def discard(self, key: str) -> None:
        """Removes the workspace of a key that has no sandbox now; nothing happens where there is none."""
        ...

    async def held(self, key: str) -> tuple[HeldThing, ...]:
        """What this machine still has of a key, found by looking and not by remembering; empty after its deletion."""
        ...

    async def cleanup(self, keep: frozenset[str]) -> int:
        """Removes what an earlier life left behind, but for the workspaces of the keys to `keep`. Returns how much."""
        ...

    async def close(self) -> None: ...
