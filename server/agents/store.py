"""Where agents are kept."""

from typing import Protocol

from portway.rpc.errors import Conflict, NotFound, Stale
from portway.server.agents.types import Agent, AgentSpec, ManagedBy
from portway.server.storage_engine.documents import from_json, to_json
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns
from portway.server.storage_engine.transaction import ReadTransaction, Row, SqlValue, Transaction

_COLUMNS = columns(Agent)
_ID = "workspace_id = :workspace_id AND agent_id = :agent_id"
_BY_ID = f"SELECT {_COLUMNS} FROM agents WHERE {_ID}"
_PAGE = f"""
SELECT {_COLUMNS} FROM agents WHERE workspace_id = :workspace_id AND name > :after ORDER BY name LIMIT :limit
"""
_ALL = f"SELECT {_COLUMNS} FROM agents WHERE workspace_id = :workspace_id ORDER BY name"
_INSERT = """
INSERT INTO agents (workspace_id, agent_id, revision, managed_by, name, spec, create_time, update_time)
VALUES (:workspace_id, :agent_id, 1, :managed_by, :name, :spec, :now, :now) ON CONFLICT DO NOTHING
"""
_UPDATE = f"""
UPDATE agents SET spec = :spec, name = :name, managed_by = :managed_by, revision = revision + 1, update_time = :now
WHERE {_ID} AND (:expected = 0 OR revision = :expected) RETURNING {_COLUMNS}
"""
_NAMESAKE = "SELECT 1 FROM agents WHERE workspace_id = :workspace_id AND name = :name AND agent_id <> :agent_id"
_DELETE = f"DELETE FROM agents WHERE {_ID} AND (:expected = 0 OR revision = :expected)"


class Agents(Protocol):
    """What can be asked about agents."""

    async def agent(self, workspace_id: str, agent_id: str) -> Agent:
        """Raises NotFound."""

    async def page(self, workspace_id: str, after: str, limit: int) -> list[Agent]:
        """By name, after the name `after` ('' to begin)."""


def add_agent(
    tx: Transaction, workspace_id: str, agent_id: str, spec: AgentSpec, managed_by: ManagedBy = ManagedBy.API
) -> Agent:
    """Raises Conflict when the id or the name is taken."""
    params: dict[str, SqlValue] = {
        "workspace_id": workspace_id,
        "agent_id": agent_id,
        "managed_by": managed_by,
        "name": spec.name,
        "spec": to_json(spec),
        "now": tx.now,
    }
    if not tx.execute(_INSERT, params):
        raise Conflict(
            f"There is an agent with the id {agent_id!r} or the name {spec.name!r}. Choose others, or update it."
        )
    return Agent(workspace_id, agent_id, 1, managed_by, spec, tx.now, tx.now)


def change_agent(
    tx: Transaction,
    workspace_id: str,
    agent_id: str,
    spec: AgentSpec,
    *,
    expected_revision: int = 0,
    managed_by: ManagedBy = ManagedBy.API,
) -> Agent:
    """Replace its spec.

    Raises NotFound; Stale when its revision is not the expected one (0: any); Conflict when the new name is taken.
    """
    params: dict[str, SqlValue] = {
        "workspace_id": workspace_id,
        "agent_id": agent_id,
        "managed_by": managed_by,
        "name": spec.name,
        "spec": to_json(spec),
        "expected": expected_revision,
        "now": tx.now,
    }
    if tx.one(_NAMESAKE, params) is not None:
        raise Conflict(f"There is another agent with the name {spec.name!r}. Choose another name.")
    row = tx.one(_UPDATE, params)
    if row is None:
        raise _stale(read_agent(tx, workspace_id, agent_id))
    return _agent(row)


def remove_agent(tx: Transaction, workspace_id: str, agent_id: str, expected_revision: int = 0) -> None:
    """Raises NotFound; Stale when its revision is not the expected one (0: any)."""
    params: dict[str, SqlValue] = {
        "workspace_id": workspace_id,
        "agent_id": agent_id,
        "expected": expected_revision,
    }
    if not tx.execute(_DELETE, params):
        raise _stale(read_agent(tx, workspace_id, agent_id))


def read_agent(tx: ReadTransaction, workspace_id: str, agent_id: str) -> Agent:
    """Raises NotFound."""
    row = tx.one(_BY_ID, {"workspace_id": workspace_id, "agent_id": agent_id})
    if row is None:
        raise NotFound.of("agent", agent_id)
    return _agent(row)


def read_agents(tx: ReadTransaction, workspace_id: str) -> list[Agent]:
    """All of the workspace, by name."""
    return [_agent(row) for row in tx.all(_ALL, {"workspace_id": workspace_id})]


def _agent(row: Row) -> Agent:
    return Agent(row[0], row[1], row[2], ManagedBy(row[3]), from_json(AgentSpec, row[4]), row[5], row[6])


def _stale(agent: Agent) -> Stale:
    return Stale(f"The agent {agent.agent_id!r} is at revision {agent.revision} now. Read it again, then write.")


class StoredAgents:
    """Agents in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def agent(self, workspace_id: str, agent_id: str) -> Agent:
        return await self._reader.look(lambda tx: read_agent(tx, workspace_id, agent_id))

    async def page(self, workspace_id: str, after: str, limit: int) -> list[Agent]:
        params: dict[str, SqlValue] = {"workspace_id": workspace_id, "after": after, "limit": limit}
        return [_agent(row) for row in await self._reader.run(lambda tx: tx.all(_PAGE, params))]
