"""MCP servers that the configuration file declares: `tools.mcp_servers`, in the shape of the contract."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from portway.rpc.configuration import ConfigurationError, read_file
from portway.rpc.written import message_from
from portway.server.agents.types import ManagedBy
from portway.server.outbound.policy import OutboundPolicy
from portway.server.storage_engine.transaction import Transaction
from portway.server.storage_engine.writer import Writer
from portway.server.tools.mcp.checks import McpRules, violations_of
from portway.server.tools.mcp.keep import McpSecrets, places_of
from portway.server.tools.mcp.store import add_server, change_server, read_servers, remove_server
from portway.server.tools.mcp.wire import Draft, draft_of
from portway.server.workspaces.types import DEFAULT_WORKSPACE
from portway.v1 import tool_pb2

_GIVEN = ("state", "reason", "managed_by", "revision", "tool_count", "problems", "protocol_version")


async def declare_servers(file: Path | None, policy: OutboundPolicy, writer: Writer, secrets: McpSecrets) -> None:
    """Call at start. Raises ConfigurationError that names the file."""
    try:
        drafts = read_declared_servers(read_file(file), policy)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from error
    await writer.run(lambda tx: apply_declared_servers(tx, drafts, secrets))


def read_declared_servers(sections: Mapping[str, object], policy: OutboundPolicy) -> tuple[Draft, ...]:
    """Raises ConfigurationError naming the place of the first mistake."""
    section = sections.get("tools") or {}
    if not isinstance(section, Mapping):
        raise ConfigurationError("section `tools` must hold keys and values")
    unknown = [key for key in section if key != "mcp_servers"]
    if unknown:
        raise ConfigurationError(f"section `tools`: unknown key `{unknown[0]}`; known: mcp_servers")
    items = section.get("mcp_servers") or []
    if not isinstance(items, list):
        raise ConfigurationError("`tools.mcp_servers` must be a list")
    drafts = tuple(_draft(item, f"tools.mcp_servers[{index}]", policy) for index, item in enumerate(items))
    names = [draft.server_id for draft in drafts]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"`tools.mcp_servers`: server_id `{name}` stands there twice")
    return drafts


def apply_declared_servers(tx: Transaction, drafts: tuple[Draft, ...], secrets: McpSecrets) -> None:
    """What the file declares is the file's; what it no longer declares is removed."""
    before = {server.server_id: server for server in read_servers(tx, DEFAULT_WORKSPACE)}
    wanted = {draft.server_id for draft in drafts}
    for server in before.values():
        if server.managed_by is ManagedBy.CONFIG and server.server_id not in wanted:
            remove_server(tx, DEFAULT_WORKSPACE, server.server_id)
            secrets.drop(tx, DEFAULT_WORKSPACE, server.server_id, places_of(server.spec))
    for draft in drafts:
        known = before.get(draft.server_id)
        if known is None:
            add_server(tx, DEFAULT_WORKSPACE, draft.server_id, draft.spec, ManagedBy.CONFIG)
        elif known.spec != draft.spec or known.managed_by is not ManagedBy.CONFIG:
            change_server(tx, DEFAULT_WORKSPACE, draft.server_id, draft.spec, managed_by=ManagedBy.CONFIG)
        secrets.keep(tx, DEFAULT_WORKSPACE, draft, known.spec if known is not None else None)


def _draft(written: object, place: str, policy: OutboundPolicy) -> Draft:
    message = message_from(tool_pb2.McpServer, written, place)
    for name in _GIVEN:
        if getattr(message, name):
            raise ConfigurationError(f"`{place}.{name}` is given by the host; remove it")
    draft = draft_of(message)
    # Who writes the file may name a private address.
    own = policy.with_private_host(urlsplit(draft.spec.url).hostname or "") if draft.spec.url else policy
    for violation in violations_of(draft, McpRules(own)):
        raise ConfigurationError(f"`{place}.{violation.field.removeprefix('mcp_server.')}` {violation.description}")
    return draft
