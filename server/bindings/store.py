"""Where bindings are kept."""

from typing import Protocol

from portway.rpc.errors import Conflict, NotFound, Stale
from portway.server.agents.types import ManagedBy
from portway.server.bindings.types import GLOBAL_WORKSPACE, Binding, BindingSpec
from portway.server.storage_engine.documents import from_json, to_json
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns
from portway.server.storage_engine.transaction import ReadTransaction, Row, SqlValue, Transaction

_COLUMNS = columns(Binding)
_ID = "workspace_id = :workspace_id AND binding_id = :binding_id"
_BY_ID = f"SELECT {_COLUMNS} FROM bindings WHERE {_ID}"
_PAGE = f"""
SELECT {_COLUMNS} FROM bindings WHERE workspace_id = :workspace_id AND binding_id > :after
ORDER BY binding_id LIMIT :limit
"""
_CONSIDERED = f"""
SELECT {_COLUMNS} FROM bindings WHERE workspace_id IN (:workspace_id, :global) ORDER BY workspace_id, binding_id
"""
_ALL = f"SELECT {_COLUMNS} FROM bindings WHERE workspace_id = :workspace_id ORDER BY binding_id"
_OF_AGENT = f"""
SELECT {_COLUMNS} FROM bindings WHERE workspace_id = :workspace_id AND agent_id = :agent_id ORDER BY binding_id
"""
_INSERT = """
INSERT INTO bindings (workspace_id, binding_id, revision, managed_by, agent_id, spec, create_time, update_time)
VALUES (:workspace_id, :binding_id, 1, :managed_by, :agent_id, :spec, :now, :now)
ON CONFLICT (workspace_id, binding_id) DO NOTHING
"""
_UPDATE = f"""
UPDATE bindings
SET spec = :spec, agent_id = :agent_id, managed_by = :managed_by, revision = revision + 1, update_time = :now
WHERE {_ID} AND (:expected = 0 OR revision = :expected) RETURNING {_COLUMNS}
"""
_DELETE = f"DELETE FROM bindings WHERE {_ID} AND (:expected = 0 OR revision = :expected)"


class Bindings(Protocol):
    """What can be asked about bindings."""

    async def binding(self, workspace_id: str, binding_id: str) -> Binding:
        """Raises NotFound."""

    async def page(self, workspace_id: str, after: str, limit: int) -> list[Binding]:
        """By id, after the id `after` ('' to begin)."""

    async def considered(self, workspace_id: str) -> list[Binding]:
        """All that may hold for an event of the workspace: its own and the global ones."""

    async def of_agent(self, workspace_id: str, agent_id: str) -> list[Binding]:
        """All that name the agent."""


def add_binding(
    tx: Transaction, workspace_id: str, binding_id: str, spec: BindingSpec, managed_by: ManagedBy = ManagedBy.API
) -> Binding:
    """Raises Conflict when the id is taken.

    That no other binding is equally specific is checked before, in the same unit.
    """
    params = _params(tx, workspace_id, binding_id, spec, managed_by)
    if not tx.execute(_INSERT, params):
        raise Conflict(f"There is a binding {binding_id!r} already. Choose another id, or update that one.")
    return Binding(workspace_id, binding_id, 1, managed_by, spec, tx.now, tx.now)


def change_binding(
    tx: Transaction,
    workspace_id: str,
    binding_id: str,
    spec: BindingSpec,
    *,
    expected_revision: int = 0,
    managed_by: ManagedBy = ManagedBy.API,
) -> Binding:
    """Replace its spec. Raises NotFound; Stale when its revision is not the expected one (0: any)."""
    params = _params(tx, workspace_id, binding_id, spec, managed_by)
    row = tx.one(_UPDATE, {**params, "expected": expected_revision})
    if row is None:
        raise _stale(read_binding(tx, workspace_id, binding_id))
    return _binding(row)


def remove_binding(tx: Transaction, workspace_id: str, binding_id: str, expected_revision: int = 0) -> None:
    """Raises NotFound; Stale when its revision is not the expected one (0: any)."""
    params: dict[str, SqlValue] = {
        "workspace_id": workspace_id,
        "binding_id": binding_id,
        "expected": expected_revision,
    }
    if not tx.execute(_DELETE, params):
        raise _stale(read_binding(tx, workspace_id, binding_id))


def read_binding(tx: ReadTransaction, workspace_id: str, binding_id: str) -> Binding:
    """Raises NotFound."""
    row = tx.one(_BY_ID, {"workspace_id": workspace_id, "binding_id": binding_id})
    if row is None:
        raise NotFound.of("binding", binding_id)
    return _binding(row)


def read_bindings(tx: ReadTransaction, workspace_id: str) -> list[Binding]:
    """All that are kept under the workspace, by id."""
    return [_binding(row) for row in tx.all(_ALL, {"workspace_id": workspace_id})]


def read_of_agent(tx: ReadTransaction, workspace_id: str, agent_id: str) -> list[Binding]:
    """All of the workspace that name the agent."""
    return [_binding(row) for row in tx.all(_OF_AGENT, {"workspace_id": workspace_id, "agent_id": agent_id})]


def read_considered(tx: ReadTransaction, workspace_id: str) -> list[Binding]:
    """All that may hold for an event of the workspace: its own and the global ones."""
    return [_binding(row) for row in tx.all(_CONSIDERED, {"workspace_id": workspace_id, "global": GLOBAL_WORKSPACE})]


def _params(
    tx: Transaction, workspace_id: str, binding_id: str, spec: BindingSpec, managed_by: ManagedBy
) -> dict[str, SqlValue]:
    return {
        "workspace_id": workspace_id,
        "binding_id": binding_id,
        "managed_by": managed_by,
        "agent_id": spec.agent_id,
        "spec": to_json(spec),
        "now": tx.now,
    }


def _binding(row: Row) -> Binding:
    return Binding(row[0], row[1], row[2], ManagedBy(row[3]), from_json(BindingSpec, row[4]), row[5], row[6])


def _stale(binding: Binding) -> Stale:
    return Stale(
        f"The binding {binding.binding_id!r} is at revision {binding.revision} now. Read it again, then write."
    )


class StoredBindings:
    """Bindings in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def binding(self, workspace_id: str, binding_id: str) -> Binding:
        return await self._reader.look(lambda tx: read_binding(tx, workspace_id, binding_id))

    async def page(self, workspace_id: str, after: str, limit: int) -> list[Binding]:
        params: dict[str, SqlValue] = {"workspace_id": workspace_id, "after": after, "limit": limit}
        return [_binding(row) for row in await self._reader.run(lambda tx: tx.all(_PAGE, params))]

    async def considered(self, workspace_id: str) -> list[Binding]:
        return await self._reader.run(lambda tx: read_considered(tx, workspace_id))

    async def of_agent(self, workspace_id: str, agent_id: str) -> list[Binding]:
        return await self._reader.run(lambda tx: read_of_agent(tx, workspace_id, agent_id))
