"""Commands as asked for, and managed processes as they are told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from portway.box.backends.types import Exit
from portway.box.isolation.terminal import TerminalSize
from portway.box.sessions.types import SessionRef


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """What to run. Exactly one of `argv` and `shell` is set. `timeout` in seconds; `None`: the default, or with
    `longest_time` what the session lets any command take."""

    argv: tuple[str, ...] = ()
    shell: str = ""
    working_directory: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    terminal: TerminalSize | None = None
    longest_time: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """What is kept of the two outputs of a command, and how many bytes of each were left out in the middle."""

    stdout: bytes
    stderr: bytes
    stdout_left_out: int
    stderr_left_out: int


@dataclass(frozen=True, slots=True)
class CommandResult:
    """A command that ended. `replayed`: it ran earlier, under the same request id.

    `file_error`: why its output is not in the file that was asked for.
    """

    output: Output
    exit: Exit
    replayed: bool = False
    file_error: str = ""


class ProcessState(StrEnum):
    RUNNING = "running"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    EXITED = "exited"
    LOST = "lost"


class RestartPolicy(StrEnum):
    NEVER = "never"
    ON_FAILURE = "on_failure"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Process:
    """A managed process as it is told. Times in seconds since the epoch."""

    process_id: str
    session: SessionRef
    command: CommandRequest
    state: ProcessState
    start_time: float
    exit: Exit | None
    restart_count: int
    stdout_bytes: int
    stderr_bytes: int
    attached_count: int
    stdin_taken: int
