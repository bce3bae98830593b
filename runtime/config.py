"""Settings of the runtime: the section `runtime` of the configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from portway.rpc.metrics.config import MetricsConfig
from portway.rpc.serving import TlsConfig


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """`plugins` are folders of plugins, or folders that are one; those bundled and in DATA/plugins are found anyway.
    `grants` are the names of environment variables that a plugin (`author/name`) may have of the runtime's. Times are
    in seconds."""

    listen: str = "127.0.0.1:0"
    data: Path = Path("data/runtime")
    credentials: Path | None = None
    plugins: tuple[Path, ...] = ()
    grants: Mapping[str, Sequence[str]] = field(default_factory=dict)
    max_runs: int = 1000
    start_seconds: float = 20.0
    drain_seconds: float = 30.0
    grace_seconds: float = 10.0
    tls: TlsConfig | None = None
    metrics: MetricsConfig = MetricsConfig()

    def __post_init__(self) -> None:
        for name in ("max_runs", "start_seconds", "drain_seconds", "grace_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
