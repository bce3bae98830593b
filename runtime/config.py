"""Settings of the runtime: the section `runtime` of the configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from portway.rpc.metrics.config import MetricsConfig
from portway.rpc.serving import TlsConfig
from portway.runtime.environments.types import EnvironmentsConfig
from portway.runtime.installed.config import InstallingConfig


@dataclass(frozen=True, slots=True)
class HostHarness:
    """Whether harness runners may start programs on this machine itself, outside of any sandbox, with the rights of the
    runtime's user, and in which directories. Workspaces that nobody used for `workspace_days` are removed."""

    enabled: bool = False
    working_directories: tuple[Path, ...] = ()
    workspace_days: float = 7.0

    def __post_init__(self) -> None:
        if self.enabled and not self.working_directories:
            raise ValueError("working_directories must name at least one directory where it is enabled")
        if not all(one.is_absolute() for one in self.working_directories):
            raise ValueError("working_directories must be absolute paths")
        if self.workspace_days <= 0:
            raise ValueError("workspace_days must be more than 0")


@dataclass(frozen=True, slots=True)
class SessionBridge:
    """A desktop session that messages may be handed to: the loopback port of its queue, and the queue's folder, in
    which the file `token` opens it."""

    port: int
    folder: Path

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError("port must be from 1 to 65535")
        if not self.folder.is_absolute():
            raise ValueError("folder must be an absolute path")


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """`plugins` are folders of plugins, or folders that are one; those bundled, installed and in DATA/plugins are found
    anyway. With `reload_on_change`, for development, the operator's folders are watched. A plugin whose process gives
    no sign of life for `hung_seconds` is ended. `grants` are the names of environment variables that a plugin
    (`author/name`) may have of the runtime's. `keep_cookies` leaves what a plugin is called with where tests of plugins
    find it. Times are in seconds."""

    listen: str = "127.0.0.1:0"
    data: Path = Path("data/runtime")
    credentials: Path | None = None
    plugins: tuple[Path, ...] = ()
    grants: Mapping[str, Sequence[str]] = field(default_factory=dict)
    max_runs: int = 1000
    start_seconds: float = 20.0
    drain_seconds: float = 30.0
    grace_seconds: float = 10.0
    hung_seconds: float = 60.0
    keep_cookies: bool = False
    tls: TlsConfig | None = None
    metrics: MetricsConfig = MetricsConfig()
    environments: EnvironmentsConfig = EnvironmentsConfig()
    installing: InstallingConfig = InstallingConfig()
    reload_on_change: bool = False
    host_harness: HostHarness = HostHarness()
    session_bridges: Mapping[str, SessionBridge] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("max_runs", "start_seconds", "drain_seconds", "grace_seconds", "hung_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
