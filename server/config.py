"""Settings of the host: the section `host` of the configuration, and the sections that it reads beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from portway.rpc.channel import ClientTls
from portway.rpc.configuration import load
from portway.rpc.limits import Limits
from portway.rpc.metrics.config import MetricsConfig
from portway.rpc.serving import TlsConfig
from portway.rpc.traces.config import TelemetryConfig
from portway.server.bridge.config import BridgeLimits
from portway.server.gateway.config import GatewayLimits
from portway.server.models.config import ModelsConfig
from portway.server.outbound.policy import OutboundPolicy
from portway.server.retention.config import RetentionConfig


@dataclass(frozen=True, slots=True)
class HostLimits:
    """How much the host takes on. Times are in seconds.

    `runner_patience`: how long a run waits for the runtime to come. `stop_grace`: how long a run may take to end after
    it was told to. `drain`: how long a stopping host waits for what executes. `artifact_bytes`: the largest file.
    `calls_per_second` (with bursts of `calls_burst`), `streams_per_caller` and `connections_per_caller` are of one
    principal: a user with all tokens, else a token. Calls that stream have slots of their own.
    `first_contact`: how long a starting host waits for runtime and box before it serves without them.
    """

    active_runs: int = 256
    waiting_runs: int = 100_000
    runner_patience: float = 30.0
    stop_grace: float = 5.0
    drain: float = 10.0
    concurrent_calls: int = 4096
    concurrent_streams: int = 4096
    calls_per_second: float | None = None
    calls_burst: float = 100.0
    streams_per_caller: int | None = None
    connections_per_caller: int | None = None
    artifact_bytes: int = 20 * 1024 * 1024
    first_contact: float = 5.0

    @property
    def of_calls(self) -> Limits:
        """As the server takes them."""
        return Limits(
            concurrent_calls=self.concurrent_calls,
            concurrent_streams=self.concurrent_streams,
            rate=self.calls_per_second,
            burst=self.calls_burst,
            streams_per_principal=self.streams_per_caller,
            connections_per_principal=self.connections_per_caller,
        )

    def __post_init__(self) -> None:
        for name in ("active_runs", "waiting_runs", "concurrent_calls", "stop_grace", "artifact_bytes"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")


@dataclass(frozen=True, slots=True)
class HostConfig:
    """The section `host`. `database` '' is SQLite in the data folder. `skills` is a folder of skills of the operator's.

    `runtime` and `box` are addresses, or ready files; '' for none. Credentials are files with one token each.
    `pass_keys_file` is where the box finds the public keys of tokens that the host signs for it.
    `http_listen` is where HTTP is served (the model gateway, the bridges of runs); '' or `off` for nowhere. `http_url`
    is what programs are told instead of it, where they reach it under another name.
    `mcp_commands` are patterns of the programs that MCP servers made over the API may be; the file's may be any.
    `runtime_tls` and `box_tls` (`ca: FILE`) are for those that serve over TLS themselves.
    """

    listen: str = "127.0.0.1:7700"
    data: Path = Path("data/host")
    database: str = ""
    skills: Path | None = None
    name: str = "portway"
    runtime: str = ""
    runtime_credential: Path | None = None
    box: str = ""
    box_credential: Path | None = None
    admin_token_file: Path | None = None
    adapter_token_file: Path | None = None
    admins_file: Path | None = None
    pass_keys_file: Path | None = None
    limits: HostLimits = HostLimits()
    tls: TlsConfig | None = None
    runtime_tls: ClientTls | None = None
    box_tls: ClientTls | None = None
    http_listen: str = ""
    http_url: str = ""
    mcp_commands: tuple[str, ...] = ("*",)
    gateway: GatewayLimits = GatewayLimits()
    bridge: BridgeLimits = BridgeLimits()
    metrics: MetricsConfig = MetricsConfig()

    @property
    def serves_http(self) -> bool:
        return self.http_listen not in ("", "off")

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data.absolute() / 'portway.db'}"


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that the host is told. `file` is where agents and bindings are declared."""

    host: HostConfig = HostConfig()
    models: ModelsConfig = ModelsConfig()
    retention: RetentionConfig = RetentionConfig()
    outbound: OutboundPolicy = OutboundPolicy()
    telemetry: TelemetryConfig = TelemetryConfig()
    environment: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None


def read_config(file: Path | None, environment: Mapping[str, str], flags: Mapping[str, object]) -> Config:
    """Raises ConfigurationError that says where, what, and what to do."""
    return Config(
        host=load(HostConfig, "host", file=file, environment=environment, flags=flags),
        models=load(ModelsConfig, "models", file=file, environment=environment),
        retention=load(RetentionConfig, "retention", file=file, environment=environment),
        outbound=load(OutboundPolicy, "outbound", file=file, environment=environment),
        telemetry=load(TelemetryConfig, "telemetry", file=file, environment=environment),
        environment=environment,
        file=file,
    )
