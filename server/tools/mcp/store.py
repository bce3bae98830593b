"""Where MCP servers are kept."""

from typing import Protocol

from portway.rpc.errors import Conflict, NotFound, Stale
from portway.server.agents.types import ManagedBy
from portway.server.storage_engine.documents import from_json, to_json
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns
from portway.server.storage_engine.transaction import ReadTransaction, Row, SqlValue, Transaction
from portway.server.tools.mcp.types import McpServer, McpSpec

_COLUMNS = columns(McpServer)
_ID = "workspace_id = :workspace_id AND server_id = :server_id"
_BY_ID = f"SELECT {_COLUMNS} FROM mcp_servers WHERE {_ID}"
_PAGE = f"""
SELECT {_COLUMNS} FROM mcp_servers WHERE workspace_id = :workspace_id AND server_id > :after
ORDER BY server_id LIMIT :limit
"""
_ALL = f"SELECT {_COLUMNS} FROM mcp_servers WHERE workspace_id = :workspace_id ORDER BY server_id"
_EVERY = f"SELECT {_COLUMNS} FROM mcp_servers ORDER BY workspace_id, server_id"
_INSERT = """
INSERT INTO mcp_servers (workspace_id, server_id, revision, managed_by, spec, create_time, update_time)
VALUES (:workspace_id, :server_id, 1, :managed_by, :spec, :now, :now)
ON CONFLICT (workspace_id, server_id) DO NOTHING
"""
_UPDATE = f"""
UPDATE mcp_servers SET spec = :spec, managed_by = :managed_by, revision = revision + 1, update_time = :now
WHERE {_ID} AND (:expected = 0 OR revision = :expected) RETURNING {_COLUMNS}
"""
_DELETE = f"DELETE FROM mcp_servers WHERE {_ID}"


class McpServers(Protocol):
    """What can be asked about MCP servers."""

    async def server(self, workspace_id: str, server_id: str) -> McpServer:
        """Raises NotFound."""

    async def page(self, workspace_id: str, after: str, limit: int) -> list[McpServer]:
        """By id, after the id `after` ('' to begin)."""

    async def every(self) -> list[McpServer]:
        """Those of all workspaces, for whoever keeps the connections."""


def add_server(
    tx: Transaction, workspace_id: str, server_id: str, spec: McpSpec, managed_by: ManagedBy = ManagedBy.API
) -> McpServer:
    """Raises Conflict when the id is taken."""
    if not tx.execute(_INSERT, _params(tx, workspace_id, server_id, spec, managed_by)):
        raise Conflict(f"There is an MCP server {server_id!r} already. Choose another id, or update that one.")
    return McpServer(workspace_id, server_id, 1, managed_by, spec, tx.now, tx.now)


def change_server(
    tx: Transaction,
    workspace_id: str,
    server_id: str,
    spec: McpSpec,
    *,
    expected_revision: int = 0,
    managed_by: ManagedBy = ManagedBy.API,
) -> McpServer:
    """Replace its spec. Raises NotFound; Stale when its revision is not the expected one (0: any)."""
    row = tx.one(_UPDATE, {**_params(tx, workspace_id, server_id, spec, managed_by), "expected": expected_revision})
    if row is None:
        there = read_server(tx, workspace_id, server_id)
        raise Stale(f"The MCP server {server_id!r} is at revision {there.revision} now. Read it again, then write.")
    return _server(row)


def remove_server(tx: Transaction, workspace_id: str, server_id: str) -> None:
    """Raises NotFound."""
    if not tx.execute(_DELETE, {"workspace_id": workspace_id, "server_id": server_id}):
        raise NotFound.of("MCP server", server_id)


def read_server(tx: ReadTransaction, workspace_id: str, server_id: str) -> McpServer:
    """Raises NotFound."""
    row = tx.one(_BY_ID, {"workspace_id": workspace_id, "server_id": server_id})
    if row is None:
        raise NotFound.of("MCP server", server_id)
    return _server(row)


def read_servers(tx: ReadTransaction, workspace_id: str) -> list[McpServer]:
    """All of the workspace, by id."""
    return [_server(row) for row in tx.all(_ALL, {"workspace_id": workspace_id})]


def _params(
    tx: Transaction, workspace_id: str, server_id: str, spec: McpSpec, managed_by: ManagedBy
) -> dict[str, SqlValue]:
    return {
        "workspace_id": workspace_id,
        "server_id": server_id,
        "managed_by": managed_by,
        "spec": to_json(spec),
        "now": tx.now,
    }


def _server(row: Row) -> McpServer:
    return McpServer(row[0], row[1], row[2], ManagedBy(row[3]), from_json(McpSpec, row[4]), row[5], row[6])


class StoredMcpServers:
    """MCP servers in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def server(self, workspace_id: str, server_id: str) -> McpServer:
        return await self._reader.look(lambda tx: read_server(tx, workspace_id, server_id))

    async def page(self, workspace_id: str, after: str, limit: int) -> list[McpServer]:
        params: dict[str, SqlValue] = {"workspace_id": workspace_id, "after": after, "limit": limit}
        return [_server(row) for row in await self._reader.run(lambda tx: tx.all(_PAGE, params))]

    async def every(self) -> list[McpServer]:
        return [_server(row) for row in await self._reader.run(lambda tx: tx.all(_EVERY, {}))]
