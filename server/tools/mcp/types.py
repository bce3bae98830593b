"""What an MCP server is to an operator, and how the connection to it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from portway.server.agents.types import ManagedBy

DEFAULT_CALL_SECONDS = 60.0


class Transport(StrEnum):
    """How it is reached. STDIO: a command in the box."""

    STDIO = "stdio"
    SSE = "sse"
    STREAMABLE_HTTP = "streamable_http"


class ConnectionState(StrEnum):
    """FAILED is tried again; UNAVAILABLE waits for the box."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    FAILED = "failed"
    UNAVAILABLE = "unavailable"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class MountedFolder:
    """A directory of the machine that the session sees."""

    source: str
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class McpSpec:
    """What an operator says of a server. Values of headers and of variables that look secret are kept apart."""

    transport: Transport
    command: tuple[str, ...] = ()
    url: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    secret_env: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    allowed_tools: tuple[str, ...] = ()
    denied_tools: tuple[str, ...] = ()
    disabled: bool = False
    trust_annotations: bool = False
    call_seconds: float = DEFAULT_CALL_SECONDS
    box_profile: str = ""
    box_session: str = ""
    install: tuple[str, ...] = ()
    mounts: tuple[MountedFolder, ...] = ()

    def takes(self, tool: str) -> bool:
        """Whether the operator lets agents have this tool of the server."""
        return tool not in self.denied_tools and (not self.allowed_tools or tool in self.allowed_tools)


@dataclass(frozen=True, slots=True)
class McpServer:
    """A server as it is kept. `revision` grows with every change; times are microseconds."""

    workspace_id: str
    server_id: str
    revision: int
    managed_by: ManagedBy
    spec: McpSpec
    create_time: int
    update_time: int

    @property
    def source_id(self) -> str:
        return f"mcp:{self.server_id}"


@dataclass(frozen=True, slots=True)
class Opened:
    """The secrets of one server. They do not print."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """How a connection is. `problems` are tools that were left out, and why."""

    state: ConnectionState
    reason: str = ""
    tool_count: int = 0
    problems: tuple[str, ...] = ()
    protocol_version: str = ""
