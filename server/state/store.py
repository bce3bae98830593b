"""Where state is kept."""

from typing import Protocol

from portway.rpc.errors import NotFound, Stale
from portway.server.state.types import ANY_VERSION, StateSpace, StateValue
from portway.server.storage_engine.prefixes import prefix_end
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, values
from portway.server.storage_engine.transaction import ReadTransaction, Transaction

_COLUMNS = columns(StateValue)
_SPACE = "workspace_id = :workspace_id AND agent_id = :agent_id AND scope = :scope AND scope_key = :scope_key"
_GET = f"SELECT {_COLUMNS} FROM state WHERE {_SPACE} AND key = :key AND deleted = 0"
_LIST = f"""
SELECT {_COLUMNS} FROM state
WHERE {_SPACE} AND key > :after AND key >= :prefix AND (:end = '' OR key < :end) AND deleted = 0
ORDER BY key LIMIT :limit
"""
# One statement decides: the version that a reader sees is the one that this compares, and one writer wins.
_SET = f"""
INSERT INTO state (workspace_id, agent_id, scope, scope_key, key, value_json, version, deleted, update_time, run_id)
SELECT :workspace_id, :agent_id, :scope, :scope_key, :key, :value_json, 1, 0, :now, :run_id
WHERE :expected <= 0 OR EXISTS (SELECT 1 FROM state WHERE {_SPACE} AND key = :key)
ON CONFLICT (workspace_id, agent_id, scope, scope_key, key) DO UPDATE SET
  value_json = :value_json, version = state.version + 1, deleted = 0, update_time = :now, run_id = :run_id
WHERE :expected = -1 OR (:expected = 0 AND state.deleted = 1) OR (state.version = :expected AND state.deleted = 0)
RETURNING version
"""
_DELETE = f"""
UPDATE state SET value_json = '', deleted = 1, version = version + 1, update_time = :now, run_id = :run_id
WHERE {_SPACE} AND key = :key AND deleted = 0 AND (:expected = -1 OR version = :expected)
"""


class State(Protocol):
    """What can be asked of state."""

    async def value(self, space: StateSpace, key: str) -> StateValue:
        """Raises NotFound."""

    async def page(self, space: StateSpace, prefix: str, after: str, limit: int) -> list[StateValue]:
        """Values whose key begins with `prefix`, by key, after the key `after` ('' to begin)."""

    async def snapshot(self, spaces: tuple[StateSpace, ...], limit: int) -> dict[StateSpace, list[StateValue]]:
        """The first values of several scopes as of one moment."""


def set_value(
    tx: Transaction, space: StateSpace, key: str, value_json: str, expected: int = ANY_VERSION, run_id: str = ""
) -> int:
    """Write a value; answers its new version. Raises Stale when its version is not the expected one."""
    params = values(space, key=key, value_json=value_json, expected=expected, run_id=run_id, now=tx.now)
    row = tx.one(_SET, params)
    if row is None:
        raise _stale(key, expected)
    return int(row[0])


def delete_value(tx: Transaction, space: StateSpace, key: str, expected: int = ANY_VERSION, run_id: str = "") -> None:
    """Delete a value. Raises NotFound without one, Stale when its version is not the expected one."""
    params = values(space, key=key, expected=expected, run_id=run_id, now=tx.now)
    if tx.execute(_DELETE, params):
        return
    read_value(tx, space, key)
    raise _stale(key, expected)


def read_value(tx: ReadTransaction, space: StateSpace, key: str) -> StateValue:
    """Raises NotFound."""
    row = tx.one(_GET, values(space, key=key))
    if row is None:
        raise NotFound.of("state value", key)
    return StateValue(*row)


def read_values(tx: ReadTransaction, space: StateSpace, prefix: str, after: str, limit: int) -> list[StateValue]:
    """Values whose key begins with `prefix`, by key, after the key `after`."""
    params = values(space, prefix=prefix, end=prefix_end(prefix), after=after, limit=limit)
    return [StateValue(*row) for row in tx.all(_LIST, params)]


def _stale(key: str, expected: int) -> Stale:
    return Stale(f"The state value {key!r} is not at version {expected} any more. Read it again, then write.")


class StoredState:
    """State in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def value(self, space: StateSpace, key: str) -> StateValue:
        return await self._reader.look(lambda tx: read_value(tx, space, key))

    async def page(self, space: StateSpace, prefix: str, after: str, limit: int) -> list[StateValue]:
        return await self._reader.look(lambda tx: read_values(tx, space, prefix, after, limit))

    async def snapshot(self, spaces: tuple[StateSpace, ...], limit: int) -> dict[StateSpace, list[StateValue]]:
        return await self._reader.look(lambda tx: {space: read_values(tx, space, "", "", limit) for space in spaces})
