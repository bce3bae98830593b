"""Where the marks of retention are kept."""

from portway.server.retention.types import Mark
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns
from portway.server.storage_engine.transaction import Params, ReadTransaction, Transaction

_COLUMNS = columns(Mark)
_POSITION = "SELECT position FROM retention_marks WHERE workspace_id = :workspace_id AND kind = :kind"
_MOVE = """
INSERT INTO retention_marks (workspace_id, kind, position, removed, last_removed, update_time)
VALUES (:workspace_id, :kind, :position, :removed, :removed, :now)
ON CONFLICT (workspace_id, kind) DO UPDATE SET position = :position, removed = retention_marks.removed + :removed,
  last_removed = CASE WHEN :removed > 0 THEN :removed ELSE retention_marks.last_removed END, update_time = :now
"""
_ALL = f"SELECT {_COLUMNS} FROM retention_marks ORDER BY workspace_id, kind LIMIT :limit"
_TOTALS = """
SELECT kind, SUM(removed), MAX(update_time) FROM retention_marks GROUP BY kind ORDER BY kind
"""


def read_position(tx: ReadTransaction, workspace_id: str, kind: str) -> int:
    """How far the kind has come; 0 at first."""
    row = tx.one(_POSITION, {"workspace_id": workspace_id, "kind": kind})
    return int(row[0]) if row else 0


def move_mark(tx: Transaction, workspace_id: str, kind: str, position: int, removed: int) -> None:
    """A pass over the kind has ended there."""
    params: Params = {
        "workspace_id": workspace_id,
        "kind": kind,
        "position": position,
        "removed": removed,
        "now": tx.now,
    }
    tx.execute(_MOVE, params)


class StoredMarks:
    """The marks in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def marks(self, limit: int) -> list[Mark]:
        """By workspace, then kind."""
        return [Mark(*row) for row in await self._reader.run(lambda tx: tx.all(_ALL, {"limit": limit}))]

    async def totals(self) -> list[tuple[str, int, int]]:
        """(kind, how many rows it removed ever, when it last ran) over all workspaces."""
        rows = await self._reader.run(lambda tx: tx.all(_TOTALS))
        return [(str(row[0]), int(row[1]), int(row[2])) for row in rows]
