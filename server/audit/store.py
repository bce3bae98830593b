"""Where audit records are kept: appended, read, and dropped by age; never changed."""

from collections.abc import Sequence
from typing import Protocol

from portway.server.audit.types import AuditFilter, AuditRecord, NewAuditRecord
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, typed, values
from portway.server.storage_engine.sequences import allocate
from portway.server.storage_engine.transaction import Row, Transaction

STREAM = "audit"

_COLUMNS = columns(AuditRecord)
_FILTERS = """
  AND (:action = '' OR action = :action) AND (:resource = '' OR resource = :resource)
  AND (:subject = '' OR subject = :subject) AND (:refused_only = 0 OR allowed = 0)
ORDER BY sequence DESC LIMIT :limit
"""
_PAGE = f"SELECT {_COLUMNS} FROM audit WHERE workspace_id = :workspace_id AND sequence < :before {_FILTERS}"
_PAGE_OF_RUN = f"""
SELECT {_COLUMNS} FROM audit
WHERE workspace_id = :workspace_id AND run_id = :run_id AND run_id <> '' AND sequence < :before {_FILTERS}
"""

NEWEST = 2**62


class Audit(Protocol):
    """What can be asked of the audit."""

    async def page(self, workspace_id: str, which: AuditFilter, before: int, limit: int) -> list[AuditRecord]:
        """Newest first, below sequence `before` (NEWEST for the first page)."""


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
        params = values(which, workspace_id=workspace_id, before=before, limit=limit)
        return [_record(row) for row in await self._reader.run(lambda tx: tx.all(sql, params))]
