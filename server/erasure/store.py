"""Where erasures are kept."""

from portway.rpc.errors import NotFound
from portway.server.erasure.types import Erasure, ErasureKind
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, typed, values
from portway.server.storage_engine.transaction import ReadTransaction, Row, SqlValue, Transaction

_COLUMNS = columns(Erasure)
_KEY = "workspace_id = :workspace_id AND erasure_id = :erasure_id"
_UNFINISHED = f"SELECT {_COLUMNS} FROM erasures WHERE end_time = 0 ORDER BY create_time LIMIT :limit"
_SAME = f"""
SELECT {_COLUMNS} FROM erasures
WHERE workspace_id = :workspace_id AND kind = :kind AND subject_id = :subject_id AND end_time = 0
"""
_BY_ID = f"SELECT {_COLUMNS} FROM erasures WHERE {_KEY}"
_ADVANCE = f"""
UPDATE erasures SET position = CASE WHEN :position < 0 THEN position ELSE :position END,
  redacted = redacted + :redacted, artifacts = artifacts + :artifacts
WHERE {_KEY}
"""
_END = f"UPDATE erasures SET end_time = :now, actor_ids = '' WHERE {_KEY} AND end_time = 0"


def begin_erasure(tx: Transaction, erasure: Erasure) -> Erasure:
    """The same that is under way already is answered instead."""
    row = tx.one(_SAME, _params(erasure, kind=erasure.kind, subject_id=erasure.subject_id))
    if row is not None:
        return _erasure(row)
    tx.insert_many("erasures", [values(erasure)])
    return erasure


def advance_erasure(tx: Transaction, erasure: Erasure, position: int, redacted: int, artifacts: int = 0) -> None:
    """In the unit that does the work, so that the counts are true after a kill."""
    tx.execute(_ADVANCE, _params(erasure, position=position, redacted=redacted, artifacts=artifacts))


def end_erasure(tx: Transaction, erasure: Erasure) -> Erasure:
    """Nothing is left to do."""
    tx.execute(_END, _params(erasure, now=tx.now))
    return read_erasure(tx, erasure.workspace_id, erasure.erasure_id)


def read_erasure(tx: ReadTransaction, workspace_id: str, erasure_id: str) -> Erasure:
    """Raises NotFound."""
    row = tx.one(_BY_ID, {"workspace_id": workspace_id, "erasure_id": erasure_id})
    if row is None:
        raise NotFound.of("erasure", erasure_id)
    return _erasure(row)


class StoredErasures:
    """Erasures in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def unfinished(self, limit: int) -> list[Erasure]:
        """Oldest first."""
        return [_erasure(row) for row in await self._reader.run(lambda tx: tx.all(_UNFINISHED, {"limit": limit}))]

    async def erasure(self, workspace_id: str, erasure_id: str) -> Erasure:
        return await self._reader.run(lambda tx: read_erasure(tx, workspace_id, erasure_id))


def _params(erasure: Erasure, **more: SqlValue) -> dict[str, SqlValue]:
    return {"workspace_id": erasure.workspace_id, "erasure_id": erasure.erasure_id, **more}


def _erasure(row: Row) -> Erasure:
    return Erasure(*typed(row, (2, ErasureKind)))
