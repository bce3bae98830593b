"""What the native tools need of a box, in plain types; `box_client.py` is the one that talks to a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from portway.server.tools.types import BoxSession


@dataclass(frozen=True, slots=True)
class Command:
    """A line for the shell, killed with everything it started when its time is over. `working_directory` '' is the
    session's own."""

    line: str
    working_directory: str
    timeout_seconds: float


class Ending(StrEnum):
    """How a command ended."""

    COMPLETED = "completed"
    TIMED_OUT = "timed_out"
    KILLED = "killed"
    OUT_OF_MEMORY = "out_of_memory"


@dataclass(frozen=True, slots=True)
class CommandResult:
    """`exit_code` is set with COMPLETED, `signal` where one ended it. Outputs hold head and tail where they were long.

    `session_begun` says that the session was made for this command: what earlier commands left is not there.
    """

    ending: Ending
    exit_code: int | None
    signal: int | None
    stdout: bytes
    stderr: bytes
    stdout_left_out: int
    stderr_left_out: int
    seconds: float
    replayed: bool = False
    session_begun: bool = False


@dataclass(frozen=True, slots=True)
class FileRange:
    """Bytes of a file and the file's whole size."""

    data: bytes
    size: int


class FileKind(StrEnum):
    """What a path is. OTHER: a pipe or a device."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A path, its size, what is there, and whether it may be executed."""

    path: str
    size: int
    kind: FileKind = FileKind.FILE
    executable: bool = False


@dataclass(frozen=True, slots=True)
class FoundLine:
    """A line of a file, numbered from 1."""

    path: str
    number: int
    line: str


@dataclass(frozen=True, slots=True)
class Search:
    """Where to look: `place` is a directory or a file. `only` limits grep to file names such as `*.py`."""

    place: str
    pattern: str
    only: str = ""
    ignore_case: bool = False
    limit: int = 200


@dataclass(frozen=True, slots=True)
class ShownSkill:
    """A skill that a session shows. `digest` is that of its files."""

    name: str
    digest: str
    writable: bool = False


class SkillsOfSessions(Protocol):
    """What sessions of runs show of their agents' skills."""

    async def shown(self, session: BoxSession) -> tuple[ShownSkill, ...]:
        """As it is to be now, by name."""

    def archive(self, workspace_id: str, name: str) -> AsyncIterator[bytes]:
        """The files of a skill as a tar archive. Raises NotFound."""


class BoxTools(Protocol):
    """A box, one method per thing that a tool does. Every call makes the session where it does not exist.

    Errors are meanings of `rpc.errors`; `Unavailable` means that the box cannot be reached.
    """

    async def run(self, session: BoxSession, command: Command, effect_id: str) -> CommandResult:
        """Runs a command once per `effect_id`. `WrongState` EFFECT_UNKNOWN: it may have run and its result is lost."""

    async def find_run(self, session: BoxSession, command: Command, effect_id: str) -> CommandResult:
        """The result of an earlier `run`, waiting where it still runs; runs nothing. `WrongState` EFFECT_UNKNOWN."""

    async def read(self, session: BoxSession, path: str, length: int) -> FileRange:
        """The first `length` bytes of a file."""

    async def write(self, session: BoxSession, path: str, data: bytes, executable: bool = False) -> int:
        """Makes or replaces a file and its folders, atomically; returns its size."""

    async def edit(self, session: BoxSession, path: str, old: str, new: str, everywhere: bool) -> int:
        """Replaces text that occurs once, or everywhere; returns how often. `WrongState`: none or several."""

    async def glob(self, session: BoxSession, search: Search) -> tuple[tuple[FoundFile, ...], bool]:
        """Files that match, and whether there were more."""

    async def show_skills(self, session: BoxSession) -> None:
        """Has the session show the skills that it is to show now."""

    async def prepare_skill(self, session: BoxSession, name: str) -> str:
        """Where the Python environment of a skill is, made on first use; '' for one that needs none."""

    async def grep(self, session: BoxSession, search: Search) -> tuple[tuple[FoundLine, ...], bool]:
        """Lines that match, and whether there were more."""
