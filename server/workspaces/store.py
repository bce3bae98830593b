"""Where workspaces are kept."""

from typing import Protocol

from portway.rpc.errors import Conflict, NotFound, Stale, WrongState
from portway.server.storage_engine.documents import from_json, to_json
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, typed
from portway.server.storage_engine.transaction import ReadTransaction, Row, SqlValue, Transaction
from portway.server.workspaces.types import Workspace, WorkspaceLimits

_COLUMNS = columns(Workspace)
_BY_ID = f"SELECT {_COLUMNS} FROM workspaces WHERE workspace_id = :workspace_id"
_PAGE = f"SELECT {_COLUMNS} FROM workspaces WHERE workspace_id > :after ORDER BY workspace_id LIMIT :limit"
_INSERT = """
INSERT INTO workspaces (workspace_id, name, disabled, revision, create_time, update_time, limits)
VALUES (:workspace_id, :name, 0, 1, :now, :now, :limits) ON CONFLICT (workspace_id) DO NOTHING
"""
_UPDATE = f"""
UPDATE workspaces SET name = :name, disabled = :disabled, limits = :limits, revision = revision + 1, update_time = :now
WHERE workspace_id = :workspace_id AND delete_time = 0 AND (:expected = 0 OR revision = :expected) RETURNING {_COLUMNS}
"""
_CONDEMN = f"""
UPDATE workspaces SET delete_time = CASE WHEN delete_time = 0 THEN :now ELSE delete_time END
WHERE workspace_id = :workspace_id RETURNING {_COLUMNS}
"""

NO_LIMITS = WorkspaceLimits()


class Workspaces(Protocol):
    """What can be asked about workspaces."""

    async def workspace(self, workspace_id: str) -> Workspace:
        """Raises NotFound."""

    async def page(self, after: str, limit: int) -> list[Workspace]:
        """By id, after the id `after` ('' to begin)."""


def add_workspace(tx: Transaction, workspace_id: str, name: str) -> Workspace:
    """Raises Conflict when the id is taken."""
    if not ensure_workspace(tx, workspace_id, name):
        raise Conflict(f"There is a workspace {workspace_id!r} already. Choose another id.")
    return Workspace(workspace_id, name, False, 1, tx.now, tx.now)


def ensure_workspace(tx: Transaction, workspace_id: str, name: str, limits: WorkspaceLimits = NO_LIMITS) -> bool:
    """Add it unless it is there; true when it was added."""
    params: dict[str, SqlValue] = {"workspace_id": workspace_id, "name": name, "now": tx.now, "limits": to_json(limits)}
    return bool(tx.execute(_INSERT, params))


def condemn_workspace(tx: Transaction, workspace_id: str) -> Workspace:
    """From now on it is being erased. Raises NotFound."""
    row = tx.one(_CONDEMN, {"workspace_id": workspace_id, "now": tx.now})
    if row is None:
        raise NotFound.of("workspace", workspace_id)
    return _workspace(row)


def change_workspace(
    tx: Transaction,
    workspace_id: str,
    *,
    name: str,
    disabled: bool,
    limits: WorkspaceLimits = NO_LIMITS,
    expected_revision: int = 0,
) -> Workspace:
    """Raises NotFound; WrongState while it is being erased; Stale for another revision than the expected (0: any)."""
    params: dict[str, SqlValue] = {
        "workspace_id": workspace_id,
        "name": name,
        "disabled": int(disabled),
        "limits": to_json(limits),
        "expected": expected_revision,
        "now": tx.now,
    }
    row = tx.one(_UPDATE, params)
    if row is None:
        found = read_workspace(tx, workspace_id)
        if found.delete_time:
            raise WrongState(f"The workspace {workspace_id!r} is being erased. Make another one.")
        raise Stale(f"The workspace {workspace_id!r} is at revision {found.revision} now. Read it again, then write.")
    return _workspace(row)


def read_workspace(tx: ReadTransaction, workspace_id: str) -> Workspace:
    """Raises NotFound."""
    row = tx.one(_BY_ID, {"workspace_id": workspace_id})
    if row is None:
        raise NotFound.of("workspace", workspace_id)
    return _workspace(row)


def _workspace(row: Row) -> Workspace:
    return Workspace(*typed(row, (2, bool), (6, _limits)))


def _limits(text: str) -> WorkspaceLimits:
    return from_json(WorkspaceLimits, text) if text else WorkspaceLimits()


class StoredWorkspaces:
    """Workspaces in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def workspace(self, workspace_id: str) -> Workspace:
        return await self._reader.run(lambda tx: read_workspace(tx, workspace_id))

    async def page(self, after: str, limit: int) -> list[Workspace]:
        rows = await self._reader.run(lambda tx: tx.all(_PAGE, {"after": after, "limit": limit}))
        return [_workspace(row) for row in rows]
