"""Where audit records are kept: appended, read, and dropped by age; never changed."""

from collections.abc import Sequence
from typing import Protocol

from portway.server.audit.types import AuditFilter, AuditRecord, NewAuditRecord
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, typed, values
from portway.server.storage_engine.sequences import allocate, latest
from portway.server.storage_engine.transaction import Row, Transaction

STREAM = "audit"

_COLUMNS = columns(AuditRecord)
_CHOSEN = """
  AND (:action = '' OR action = :action OR (:kind <> '' AND substr(action, 1, length(:kind)) = :kind))
  AND (:resource = '' OR resource = :resource)
  AND (:subject = '' OR subject = :subject) AND (:refused_only = 0 OR allowed = 0)
  AND (:actor = '' OR token_id = :actor OR run_id = :actor OR subject = :actor)
  AND (:after_time = 0 OR time >= :after_time) AND (:before_time = 0 OR time < :before_time)
"""
_FILTERS = f"{_CHOSEN} ORDER BY sequence DESC LIMIT :limit"
_PAGE = f"SELECT {_COLUMNS} FROM audit WHERE workspace_id = :workspace_id AND sequence < :before {_FILTERS}"
_PAGE_OF_RUN = f"""
SELECT {_COLUMNS} FROM audit
WHERE workspace_id = :workspace_id AND run_id = :run_id AND run_id <> '' AND sequence < :before {_FILTERS}
"""
_FOLLOW = f"""
SELECT {_COLUMNS} FROM audit
WHERE workspace_id = :workspace_id AND sequence > :after AND sequence <= :until
  AND (:run_id = '' OR run_id = :run_id) {_CHOSEN}
ORDER BY sequence LIMIT :limit
"""

_OLDEST = "SELECT COALESCE(MIN(sequence), 0) FROM audit WHERE workspace_id = :workspace_id"

NEWEST = 2**62


class Audit(Protocol):
    """What can be asked of the audit."""

    async def page(self, workspace_id: str, which: AuditFilter, before: int, limit: int) -> list[AuditRecord]:
        """Newest first, below sequence `before` (NEWEST for the first page)."""

    async def follow(self, workspace_id: str, which: AuditFilter, after: int, until: int) -> list[AuditRecord]:
        """Oldest first, above sequence `after` and up to `until`."""

    async def latest_sequence(self, workspace_id: str) -> int:
        """0 before the first record."""

    async def oldest_sequence(self, workspace_id: str) -> int:
        """Of those that are kept; 0 without any."""


def append_audit(tx: Transaction, records: Sequence[NewAuditRecord]) -> None:
    """Append records of one workspace, in the unit of what they tell of where there is one."""
    if not records:
        return
    first = allocate(tx, records[0].workspace_id, STREAM, len(records))
    tx.insert_many(
        "audit",
        [
            values(record, sequence=sequence, time=tx.now, allowed=int(record.allowed))
            for sequence, record in enumerate(records, first)
        ],
    )


def _record(row: Row) -> AuditRecord:
    return AuditRecord(*typed(row, (5, bool)))


class StoredAudit:
    """The audit in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def page(self, workspace_id: str, which: AuditFilter, before: int, limit: int) -> list[AuditRecord]:
        sql = _PAGE_OF_RUN if which.run_id else _PAGE
        params = values(which, kind=_kind(which), workspace_id=workspace_id, before=before, limit=limit)
        return [_record(row) for row in await self._reader.run(lambda tx: tx.all(sql, params))]

    async def follow(self, workspace_id: str, which: AuditFilter, after: int, until: int) -> list[AuditRecord]:
        params = values(
            which, kind=_kind(which), workspace_id=workspace_id, after=after, until=until, limit=until - after
        )
        return [_record(row) for row in await self._reader.run(lambda tx: tx.all(_FOLLOW, params))]

    async def latest_sequence(self, workspace_id: str) -> int:
        return await self._reader.run(lambda tx: latest(tx, workspace_id, STREAM))

    async def oldest_sequence(self, workspace_id: str) -> int:
        row = await self._reader.run(lambda tx: tx.one(_OLDEST, {"workspace_id": workspace_id}))
        return int(row[0]) if row else 0


def _kind(which: AuditFilter) -> str:
    """What an action begins with, where a filter takes all of a kind."""
    return which.action.removesuffix("*") if which.action.endswith(".*") else ""
