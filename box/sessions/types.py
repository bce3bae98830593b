"""What a session is: what was asked for, what is in force, and where it is in its life."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from portway.box.backends.types import MountMode, Network, SandboxUsage

DEFAULT_PROFILE = "default"
DEFAULT_TTL_SECONDS = 300.0
DEFAULT_COMMAND_SECONDS = 30.0


@dataclass(frozen=True, slots=True, order=True)
class SessionRef:
    """A session's full name. The id is the caller's; two workspaces may use the same one."""

    workspace_id: str
    session_id: str

    def __str__(self) -> str:
        return f"{self.workspace_id}/{self.session_id}"


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    mode: Network
    allow: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MountRequest:
    source: str
    target: str
    mode: MountMode = MountMode.READ_ONLY


@dataclass(frozen=True, slots=True)
class SessionSkill:
    """A skill that a session shows: its folder's name, and the digest of its files."""

    name: str
    digest: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """A spec as asked for. `None`, empty text and empty collections mean: not said."""

    profile: str = ""
    image: str = ""
    workspace_source: str = ""
    extra_mounts: tuple[MountRequest, ...] = ()
    working_directory: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    network: NetworkPolicy | None = None
    cpu_millis: int | None = None
    memory_bytes: int | None = None
    pids: int | None = None
    disk_bytes: int | None = None
    concurrent_commands: int | None = None
    command_timeout: float | None = None
    read_only_root: bool | None = None
    ttl: float | None = None
    persistent: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    default_timeout: float | None = None
    require_probes: tuple[str, ...] = ()
    skills: tuple[SessionSkill, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """A spec in force: profile, request and locked values together. Every field is decided. Seconds, bytes.

    `locked`: fields that the profile decided whatever the request said. Fields with a default came later than sessions
    that lie on disk.
    `image_reference` is the image that the name stood for when the session was made: it stays that one, and so does
    `image_env`, what its configuration sets.
    """

    profile: str
    image: str
    workspace_source: str
    extra_mounts: tuple[MountRequest, ...]
    working_directory: str
    env: Mapping[str, str]
    network: NetworkPolicy
    cpu_millis: int
    memory_bytes: int
    pids: int
    disk_bytes: int
    concurrent_commands: int
    command_timeout: float
    read_only_root: bool
    ttl: float
    persistent: bool
    labels: Mapping[str, str]
    default_timeout: float = DEFAULT_COMMAND_SECONDS
    require_probes: tuple[str, ...] = ()
    mounts_read_only: bool = False
    locked: tuple[str, ...] = ()
    image_reference: str = ""
    image_env: Mapping[str, str] = field(default_factory=dict)
    skills: tuple[SessionSkill, ...] = ()


class SessionState(StrEnum):
    CREATING = "creating"
    READY = "ready"
    DELETING = "deleting"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it is told. Times in seconds since the epoch."""

    ref: SessionRef
    spec: SessionSpec
    state: SessionState
    reason: str
    backend: str
    create_time: float
    last_use_time: float
    running_count: int
    unenforced_limits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SessionUse:
    """Something under way in a session: a `command`, a `process`, a `call` that works on its files, or an `offer` to
    its commands."""

    kind: str
    name: str
    since: float


@dataclass(frozen=True, slots=True)
class SessionFigures:
    """What a session uses; `None` where the backend cannot tell. `commands` were started since the box started."""

    session: Session
    usage: SandboxUsage
    commands: int
