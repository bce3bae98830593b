"""A counter per stream.

It is advanced inside the transaction that uses the numbers, so that they follow commit order without gaps.
"""

from portway.server.storage_engine.transaction import ReadTransaction, Transaction

_ADVANCE = """
INSERT INTO sequences (workspace_id, stream, value) VALUES (:workspace_id, :stream, :count)
ON CONFLICT (workspace_id, stream) DO UPDATE SET value = sequences.value + :count
RETURNING value
"""
_CURRENT = "SELECT value FROM sequences WHERE workspace_id = :workspace_id AND stream = :stream"


def allocate(tx: Transaction, workspace_id: str, stream: str, count: int = 1) -> int:
    """Take `count` numbers; answers the first. A stream begins at 1."""
    row = tx.one(_ADVANCE, {"workspace_id": workspace_id, "stream": stream, "count": count})
    if row is None:
        raise AssertionError("an INSERT … ON CONFLICT DO UPDATE … RETURNING answers one row")
    return int(row[0]) - count + 1


def latest(tx: ReadTransaction, workspace_id: str, stream: str) -> int:
    """The last number taken; 0 before the first."""
    row = tx.one(_CURRENT, {"workspace_id": workspace_id, "stream": stream})
    return int(row[0]) if row else 0
