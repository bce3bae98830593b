"""MCP servers in the contract's messages."""

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration

from portway.rpc.redaction import is_secret_key
from portway.server.agents.config_secrets import MASK
from portway.server.agents.types import ManagedBy
from portway.server.tools.mcp.types import (
    DEFAULT_CALL_SECONDS,
    ConnectionStatus,
    McpServer,
    McpSpec,
    MountedFolder,
    Transport,
)
from portway.v1 import binding_pb2, session_pb2, tool_pb2

_TRANSPORTS = {
    tool_pb2.MCP_TRANSPORT_STDIO: Transport.STDIO,
    tool_pb2.MCP_TRANSPORT_SSE: Transport.SSE,
    tool_pb2.MCP_TRANSPORT_STREAMABLE_HTTP: Transport.STREAMABLE_HTTP,
}
_NUMBERS = {transport: number for number, transport in _TRANSPORTS.items()}
_MANAGED = {
    ManagedBy.API: binding_pb2.MANAGED_BY_API,
    ManagedBy.CONFIG: binding_pb2.MANAGED_BY_CONFIG,
    ManagedBy.HOST: binding_pb2.MANAGED_BY_HOST,
}


@dataclass(frozen=True, slots=True)
class Draft:
    """A server as somebody wrote it. `values` are secrets by their place, `header/NAME` or `env/NAME`."""

    server_id: str
    revision: int
    spec: McpSpec
    values: Mapping[str, str]


def draft_of(message: tool_pb2.McpServer) -> Draft:
    """An address decides the transport where none is named."""
    usual = Transport.STREAMABLE_HTTP if message.url else Transport.STDIO
    secret_env = {name: value for name, value in message.env.items() if is_secret_key(name)}
    seconds = message.call_timeout.ToMilliseconds() / 1000 if message.HasField("call_timeout") else 0.0
    spec = McpSpec(
        transport=_TRANSPORTS.get(message.transport, usual),
        command=tuple(message.command),
        url=message.url,
        env={name: value for name, value in message.env.items() if name not in secret_env},
        secret_env=tuple(sorted(secret_env)),
        headers=tuple(sorted(message.headers)),
        allowed_tools=tuple(message.allowed_tools),
        denied_tools=tuple(message.denied_tools),
        disabled=message.disabled,
        trust_annotations=message.trust_annotations,
        call_seconds=seconds or DEFAULT_CALL_SECONDS,
        box_profile=message.box_profile,
        box_session=message.box_session,
        install=tuple(message.install),
        mounts=tuple(
            MountedFolder(one.source, one.target, one.mode == session_pb2.MOUNT_MODE_READ_WRITE)
            for one in message.mounts
        ),
    )
    values = {f"header/{name}": value for name, value in message.headers.items()}
    values |= {f"env/{name}": value for name, value in secret_env.items()}
    return Draft(message.server_id, message.revision, spec, values)


def server_message(server: McpServer, status: ConnectionStatus) -> tool_pb2.McpServer:
    """As it may be shown: secrets are masks."""
    spec = server.spec
    message = tool_pb2.McpServer(
        server_id=server.server_id,
        transport=_NUMBERS[spec.transport],
        command=spec.command,
        url=spec.url,
        env={**spec.env, **dict.fromkeys(spec.secret_env, MASK)},
        headers=dict.fromkeys(spec.headers, MASK),
        allowed_tools=spec.allowed_tools,
        denied_tools=spec.denied_tools,
        disabled=spec.disabled,
        state=status.state,
        reason=status.reason,
        managed_by=_MANAGED[server.managed_by],
        revision=server.revision,
        trust_annotations=spec.trust_annotations,
        call_timeout=_duration(spec.call_seconds),
        box_profile=spec.box_profile,
        box_session=spec.box_session,
        install=spec.install,
        mounts=[
            session_pb2.Mount(
                source=one.source,
                target=one.target,
                mode=session_pb2.MOUNT_MODE_READ_WRITE if one.writable else session_pb2.MOUNT_MODE_READ_ONLY,
            )
            for one in spec.mounts
        ],
        tool_count=status.tool_count,
        problems=status.problems,
        protocol_version=status.protocol_version,
    )
    message.create_time.FromMicroseconds(server.create_time)
    message.update_time.FromMicroseconds(server.update_time)
    return message


def _duration(seconds: float) -> Duration:
    message = Duration()
    message.FromMilliseconds(round(seconds * 1000))
    return message
