"""The settings of a box: the section `box`, read once at start."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from portway.box.images.settings import ImageSettings
from portway.box.network.settings import NetworkSettings
from portway.box.sessions.profiles import Ceiling, Profile, check_names
from portway.rpc.metrics.config import MetricsConfig

BACKENDS = ("auto", "namespace", "docker", "podman")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. With `client_ca` only clients with a certificate of that authority may connect."""

    certificate: Path
    private_key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Container engines. A socket is a path, empty for where each engine has its own; an image is one that is there.

    `image` is for sessions that name none; without it the engines serve only sessions that name one. `start_timeout`
    bounds making a container, in seconds.
    """

    docker_socket: str = ""
    podman_socket: str = ""
    image: str = ""
    start_timeout: float = 60.0

    @property
    def sockets(self) -> Mapping[str, str]:
        return {"docker": self.docker_socket, "podman": self.podman_socket}


@dataclass(frozen=True, slots=True)
class BoxConfig:
    """`data` is the box's own folder; `credentials` the file of accepted tokens. Counts, seconds.

    `pass_keys`: a file with public keys of the host, whose short-lived tokens are taken too.
    """

    data: Path
    credentials: Path
    listen: str = "127.0.0.1:7702"
    enabled: bool = True
    backend: str = "auto"
    max_sessions: int = 256
    max_sessions_per_workspace: int = 128
    max_concurrent_calls: int = 4096
    mount_roots: tuple[Path, ...] = ()
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    ceiling: Ceiling = field(default_factory=Ceiling)
    tls: TlsFiles | None = None
    pass_keys: Path | None = None
    metrics: MetricsConfig = MetricsConfig()
    insecure_public_listen: bool = False
    drain_grace: float = 10.0
    reap_interval: float = 10.0
    search_timeout: float = 20.0
    skills_bytes: int = 1024 * 1024 * 1024
    user_locks: Path = Path("/run/portway-box-users")
    images: ImageSettings = ImageSettings()
    engine: EngineConfig = EngineConfig()
    network: NetworkSettings = NetworkSettings()
    create_timeout: float = 120.0
    require_probes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_names(self.profiles)
        if self.backend not in BACKENDS:
            raise ValueError(f"`backend` must be one of {', '.join(BACKENDS)}, not {self.backend!r}")
        if self.max_sessions < 1 or self.max_sessions_per_workspace < 1:
            raise ValueError("`max_sessions` and `max_sessions_per_workspace` must be at least 1")
