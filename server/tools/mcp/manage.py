"""Making, changing and removing MCP servers; whoever keeps the connections hears of it after the commit."""

from typing import Protocol

from portway.rpc.errors import Conflict, InvalidInput, LimitExceeded, Reason, WrongState
from portway.rpc.identity import Caller
from portway.server.agents.store import read_agents
from portway.server.agents.types import ManagedBy
from portway.server.audit.store import append_audit
from portway.server.audit.types import NewAuditRecord
from portway.server.storage_engine.transaction import ReadTransaction, Transaction
from portway.server.storage_engine.writer import Writer
from portway.server.tools.mcp.checks import McpRules, violations_of
from portway.server.tools.mcp.keep import McpSecrets, places_of
from portway.server.tools.mcp.store import add_server, change_server, read_server, read_servers, remove_server
from portway.server.tools.mcp.types import McpServer
from portway.server.tools.mcp.wire import Draft

MAX_SERVERS = 100


class Connections(Protocol):
    """Who keeps a connection to each server."""

    def changed(self, server: McpServer) -> None:
        """It is new, or another than before."""

    def gone(self, workspace_id: str, server_id: str) -> None:
        """It was removed."""


class McpManager:
    """Every change is audited in the transaction that makes it."""

    def __init__(self, writer: Writer, secrets: McpSecrets, connections: Connections, rules: McpRules) -> None:
        self._writer = writer
        self._secrets = secrets
        self._connections = connections
        self._rules = rules

    async def create(self, caller: Caller, draft: Draft, request_id: str) -> McpServer:
        """Raises InvalidInput with all violations, Conflict (id), LimitExceeded."""
        self._check(draft)
        workspace_id = caller.workspace_id

        def unit(tx: Transaction) -> McpServer:
            if len(read_servers(tx, workspace_id)) >= MAX_SERVERS:
                raise LimitExceeded(f"a workspace has at most {MAX_SERVERS} MCP servers; remove one first")
            try:
                server = add_server(tx, workspace_id, draft.server_id, draft.spec)
            except Conflict:
                earlier = read_server(tx, workspace_id, draft.server_id)
                if not request_id or earlier.spec != draft.spec:
                    raise
                return earlier
            self._secrets.keep(tx, workspace_id, draft, None)
            append_audit(tx, [_record(caller, "mcp_server.create", draft.server_id)])
            return server

        return self._changed(await self._writer.run(unit))

    async def update(self, caller: Caller, draft: Draft) -> McpServer:
        """Raises as `create`; NotFound; Stale (revision); WrongState (managed by the configuration file)."""
        self._check(draft)
        workspace_id = caller.workspace_id

        def unit(tx: Transaction) -> McpServer:
            before = read_server(tx, workspace_id, draft.server_id)
            _refuse_config(before)
            server = change_server(tx, workspace_id, draft.server_id, draft.spec, expected_revision=draft.revision)
            self._secrets.keep(tx, workspace_id, draft, before.spec)
            append_audit(tx, [_record(caller, "mcp_server.update", draft.server_id)])
            return server

        return self._changed(await self._writer.run(unit))

    async def delete(self, caller: Caller, server_id: str) -> None:
        """Raises NotFound, WrongState (in use, or managed by the configuration file)."""
        workspace_id = caller.workspace_id

        def unit(tx: Transaction) -> None:
            before = read_server(tx, workspace_id, server_id)
            _refuse_config(before)
            _refuse_used(tx, before)
            remove_server(tx, workspace_id, server_id)
            self._secrets.drop(tx, workspace_id, server_id, places_of(before.spec))
            append_audit(tx, [_record(caller, "mcp_server.delete", server_id)])

        await self._writer.run(unit)
        self._connections.gone(workspace_id, server_id)

    def _check(self, draft: Draft) -> None:
        found = violations_of(draft, self._rules)
        if found:
            raise InvalidInput("; ".join(f"{one.field}: {one.description}" for one in found), fields=found)

    def _changed(self, server: McpServer) -> McpServer:
        self._connections.changed(server)
        return server


def _refuse_config(server: McpServer) -> None:
    if server.managed_by is ManagedBy.CONFIG:
        raise WrongState(
            f"The MCP server {server.server_id} is declared in the configuration file, and can only be changed there.",
            reason=Reason.MANAGED_BY_CONFIG,
        )


def _refuse_used(tx: ReadTransaction, server: McpServer) -> None:
    prefix = f"{server.source_id}/"
    users = [
        agent.agent_id
        for agent in read_agents(tx, server.workspace_id)
        if any(name.startswith(prefix) for name in agent.spec.resource_policy.tools)
    ]
    if users:
        raise WrongState(
            f"The policies of these agents name tools of the MCP server {server.server_id}: {', '.join(users[:10])}. "
            "Take them out first, or disable the server."
        )


def _record(caller: Caller, action: str, server_id: str) -> NewAuditRecord:
    return NewAuditRecord(
        workspace_id=caller.workspace_id,
        action=action,
        resource=server_id,
        allowed=True,
        role=caller.role.name.lower(),
        subject=caller.subject,
        token_id=caller.token_id,
    )
