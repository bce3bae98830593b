"""Erasing a whole workspace: every row that names it, its files, its sandboxes."""

import asyncio
import re
from functools import cache

from portway.rpc.errors import Unavailable
from portway.server.erasure.types import Erasure
from portway.server.runs.open import OpenRuns
from portway.server.runs.types import RunFilter
from portway.server.storage_engine.blobs import Blobs
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.migrations.snapshot import FILE
from portway.server.storage_engine.transaction import Params, Transaction
from portway.server.tools.box_client import BoxClient
from portway.server.transcript.search import forget_text

_AT_ONCE = 500
_TABLE = re.compile(r"CREATE TABLE (\w+) \(\n(.*?)\n\);", re.DOTALL)
_KEY = re.compile(r"PRIMARY KEY \(([^)]*)\)")
# The erasure itself and the workspace go last, together.
_LAST = ("erasures", "workspaces")
_ITEMS = "SELECT item_number FROM transcript WHERE workspace_id = :workspace_id LIMIT :limit"
_DROP_ITEM = "DELETE FROM transcript WHERE item_number = :item_number"


@cache
def tables_of_workspaces() -> dict[str, str]:
    """Every table whose rows belong to a workspace, with its primary key, as the schema has them now."""
    found = {}
    for name, body in _TABLE.findall(FILE.read_text(encoding="utf-8")):
        key = _KEY.search(body)
        if "\n  workspace_id TEXT" in f"\n{body}" and key is not None:
            found[name] = key[1]
    return found


class WorkspaceEraser:
    """`run` does it from wherever it is."""

    def __init__(self, database: Database, open_runs: OpenRuns, blobs: Blobs, box: BoxClient | None) -> None:
        self._database = database
        self._open_runs = open_runs
        self._blobs = blobs
        self._box = box

    async def run(self, erasure: Erasure) -> None:
        """Raises a PortwayError where it cannot go on for now, such as Unavailable (the box)."""
        workspace_id = erasure.workspace_id
        await self._open_runs.end(workspace_id, RunFilter(), "its workspace is being erased")
        if await self._open_runs.any(workspace_id, RunFilter()):
            raise Unavailable("runs of the workspace are still ending; the erasure goes on", retry_after=1.0)
        if self._box is not None:
            await self._box.delete_sessions(workspace_id)
        await asyncio.to_thread(self._blobs.remove_workspace, workspace_id)
        # What was under way when the first rows went may have written after them.
        while await self._pass(workspace_id):
            pass
        await asyncio.to_thread(self._blobs.remove_workspace, workspace_id)
        await self._database.writer.run(lambda tx: _drop_last(tx, workspace_id))

    async def _pass(self, workspace_id: str) -> int:
        """Every table once; answers how many rows went."""
        total = 0
        while count := await self._database.writer.run(lambda tx: _drop_items(tx, workspace_id)):
            total += count
        for table, key in tables_of_workspaces().items():
            if table in _LAST or table == "transcript":
                continue
            sql = f"""
            DELETE FROM {table} WHERE ({key}) IN
              (SELECT {key} FROM {table} WHERE workspace_id = :workspace_id LIMIT :limit)
            """
            params: Params = {"workspace_id": workspace_id, "limit": _AT_ONCE}
            while count := await self._database.writer.run(lambda tx, sql=sql, params=params: tx.execute(sql, params)):  # type: ignore[misc]
                total += count
        return total


def _drop_items(tx: Transaction, workspace_id: str) -> int:
    rows = tx.all(_ITEMS, {"workspace_id": workspace_id, "limit": _AT_ONCE})
    for (number,) in rows:
        forget_text(tx, number)
        tx.execute(_DROP_ITEM, {"item_number": number})
    return len(rows)


def _drop_last(tx: Transaction, workspace_id: str) -> None:
    for table in _LAST:
        tx.execute(f"DELETE FROM {table} WHERE workspace_id = :workspace_id", {"workspace_id": workspace_id})
