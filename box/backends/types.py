"""What every backend takes and gives: plain values, the same for all of them."""

import os
import re
from dataclasses import dataclass, field
from enum import StrEnum

from portway.box.isolation.limits import Limits
from portway.box.isolation.terminal import TerminalSize as TerminalSize
from portway.rpc.errors import InvalidInput

WORKSPACE = "/workspace"
TEMPORARY = "/tmp"
# Where the box's own sockets are inside: seen by commands, theirs to connect to and not to change.
SOCKETS = "/run/portway"
_SOCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SKILLS = f"{WORKSPACE}/.skills"


class Network(StrEnum):
    """What a session may reach."""

    OFF = "off"
    ON = "on"
    ALLOW_LIST = "allow_list"


class MountMode(StrEnum):
    """How a mount may be used. NONE covers what would be there with an empty directory."""

    READ_ONLY = "ro"
    READ_WRITE = "rw"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class HostMount:
    """A directory of the machine inside a session. `root` is the allowed root that it lies beneath."""

    root: str
    source: str
    target: str
    mode: MountMode


class Protocol(StrEnum):
    """What a listening socket speaks."""

    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True, slots=True)
class PortPlace:
    """A port of a sandbox's own loopback, 127.0.0.1; 0 takes a free one.

    With `any_address` it also takes what a `Steering` hands to it.
    """

    port: int
    protocol: Protocol = Protocol.TCP
    any_address: bool = False


@dataclass(frozen=True, slots=True)
class SocketPlace:
    """A Unix socket `/run/portway/NAME` inside. NAME: letters, digits, `.`, `_`, `-`, at most 64."""

    name: str


ListenPlace = PortPlace | SocketPlace


def check_socket_name(name: str) -> None:
    """Raises `InvalidInput` for what is not the plain name of a socket."""
    if not _SOCKET_NAME.fullmatch(name):
        raise InvalidInput("a socket's name is a letter or digit, then letters, digits, `.`, `_`, `-`, 64 in all")


@dataclass(frozen=True, slots=True)
class SkillMount:
    """A skill shown at SKILLS/`name`: the directory `source` of the machine, which lies beneath `root`.

    `writable`: commands see a copy instead, in the workspace's own file system; there is one for each `digest`.
    """

    name: str
    digest: str
    root: str
    source: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Steering:
    """What a sandbox's own network does with TCP connections to addresses of IPv4 that are not its loopback's.

    They arrive at `port` of the loopback with the address that they were meant for (see
    `portway.box.network.steering`). Those to `refused` networks fail at once, but for those also in `allowed`.
    """

    port: int
    refused: tuple[str, ...]
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """A sandbox to make. `key` names it on disk and in the kernel: letters and digits, unique in the installation.

    `env` and `directory` are those of most of its commands. `image` is the backend's own reference of an image that is
    the sandbox's root, empty for the root that the backend has itself. `steering` comes with the network ON, and is set
    up before anything runs.
    """

    key: str
    limits: Limits
    network: Network = Network.OFF
    read_only_root: bool = True
    persistent: bool = False
    mounts: tuple[HostMount, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    directory: str = WORKSPACE
    workspace: HostMount | None = None
    image: str = ""
    skills: tuple[SkillMount, ...] = ()
    steering: Steering | None = None


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """A command to start. `env` is what it sees, whole; `directory` is absolute inside."""

    argv: tuple[str, ...]
    directory: str = WORKSPACE
    env: tuple[tuple[str, str], ...] = ()
    terminal: TerminalSize | None = None
    wants_input: bool = True


class ExitStatus(StrEnum):
    """How a command ended. TIMED_OUT is decided by who waits, the rest by the backend."""

    COMPLETED = "completed"
    TIMED_OUT = "timed_out"
    KILLED = "killed"
    OUT_OF_MEMORY = "out_of_memory"


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of a command. `exit_code` only with COMPLETED, `signal` only where one ended it. Seconds, bytes."""

    status: ExitStatus
    exit_code: int | None
    signal: int | None
    duration: float
    cpu_seconds: float
    peak_memory: int | None


@dataclass(frozen=True, slots=True)
class SandboxUsage:
    """What a sandbox holds now; `None` where the backend cannot tell."""

    memory_bytes: int | None = None
    disk_bytes: int | None = None
    pids: int | None = None
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    sent_bytes: int | None = None
    received_bytes: int | None = None
    connection_count: int | None = None
    refused_count: int | None = None


@dataclass(frozen=True, slots=True, order=True)
class HeldThing:
    """Something that a session holds on the machine: `kind` such as `control_group`, an id, and its state in words.

    `since` in seconds since the epoch, 0 where it is not known.
    """

    kind: str
    name: str
    state: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class FileMount:
    """A directory of a sandbox in which files are reached: its path inside, and an open descriptor of it.

    With `below`, it is the directory of this name in the one that is open, be it another mount.
    """

    target: str
    directory: int
    writable: bool
    below: str = ""

    def open(self) -> int:
        """A descriptor of the caller's own."""
        if not self.below:
            return os.dup(self.directory)
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self.below, flags, dir_fd=self.directory)


@dataclass(frozen=True, slots=True)
class FileAccess:
    """How files of a sandbox are reached from outside. `owner`: the user to do it as; `None`: as the server itself."""

    mounts: tuple[FileMount, ...]
    owner: int | None


@dataclass(frozen=True, slots=True)
class IsolationProbe:
    """One attempt from inside, and whether it was contained."""

    name: str
    contained: bool
    message: str


@dataclass(frozen=True, slots=True)
class BackendReport:
    """Whether a backend works here, found out by running something in it."""

    name: str
    available: bool
    reason: str
    mode: str = ""
    unenforced: tuple[str, ...] = ()
    probes: tuple[IsolationProbe, ...] = field(default=())
