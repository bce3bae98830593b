"""The ledger of a run: what it said and did, numbered, and the messages that arrived while it ran."""

from collections.abc import Sequence

from portway.rpc.errors import LimitExceeded, Reason, Stale
from portway.server.runs.attempts import check_fence
from portway.server.runs.types import Fence, LedgerEntry, LedgerEvent, Steer, SteerState
from portway.server.storage_engine.rows import columns, typed
from portway.server.storage_engine.transaction import ReadTransaction, SqlValue, Transaction

# The fence, the order and the end of the ledger in one statement.
_ADVANCE = """
UPDATE runs SET last_sequence = last_sequence + :count
WHERE workspace_id = :workspace_id AND run_id = :run_id AND attempt = :attempt AND epoch = :epoch
  AND last_sequence = :after AND state IN ('queued', 'running', 'waiting')
"""
_LAST = "SELECT last_sequence FROM runs WHERE workspace_id = :workspace_id AND run_id = :run_id"
_PAGE = f"""
SELECT {columns(LedgerEvent)} FROM run_events
WHERE workspace_id = :workspace_id AND run_id = :run_id AND sequence > :after ORDER BY sequence LIMIT :limit
"""
_STEERS = """
SELECT COUNT(*), COUNT(CASE WHEN state = 'queued' THEN 1 END) FROM run_steers
WHERE workspace_id = :workspace_id AND run_id = :run_id
"""
_SPOKEN = """
SELECT 1 FROM run_events WHERE workspace_id = :workspace_id AND run_id = :run_id AND kind = 'message_completed' LIMIT 1
"""
_END_STEER = """
UPDATE run_steers SET state = :state, end_time = :now
WHERE workspace_id = :workspace_id AND run_id = :run_id AND position = :position AND state = 'queued'
RETURNING position
"""
_WITHDRAW_STEER = """
UPDATE run_steers SET state = 'withdrawn', end_time = :now
WHERE workspace_id = :workspace_id AND run_id = :run_id AND event_id = :event_id AND state = 'queued'
RETURNING position
"""
_DROP_STEERS = f"""
UPDATE run_steers SET state = 'dropped', end_time = :now
WHERE workspace_id = :workspace_id AND run_id = :run_id AND state = 'queued' RETURNING {columns(Steer)}
"""


def append_ledger(tx: Transaction, fence: Fence, after: int, entries: Sequence[LedgerEntry]) -> int:
    """Append entries as `after` + 1 and on; answers the new last sequence.

    The caller numbers its entries (the number stands in the payload), and the ledger must end at `after`. Raises Stale
    when it does not, or when the fence is lost; WrongState when the run has ended.
    """
    if not entries:
        return after
    params: dict[str, SqlValue] = {
        "workspace_id": fence.workspace_id,
        "run_id": fence.run_id,
        "attempt": fence.attempt,
        "epoch": fence.epoch,
        "after": after,
        "count": len(entries),
    }
    if not tx.execute(_ADVANCE, params):
        raise _refusal(tx, fence, after)
    tx.insert_many(
        "run_events",
        [
            {
                "workspace_id": fence.workspace_id,
                "run_id": fence.run_id,
                "sequence": sequence,
                "attempt": fence.attempt,
                "kind": entry.kind,
                "payload": entry.payload,
                "runner_first": entry.runner_first,
                "runner_last": entry.runner_last,
                "create_time": tx.now,
            }
            for sequence, entry in enumerate(entries, after + 1)
        ],
    )
    return after + len(entries)


def read_ledger(tx: ReadTransaction, workspace_id: str, run_id: str, after: int, limit: int) -> list[LedgerEvent]:
    """Committed entries above `after`, in order."""
    params: dict[str, SqlValue] = {"workspace_id": workspace_id, "run_id": run_id, "after": after, "limit": limit}
    return [LedgerEvent(*row) for row in tx.all(_PAGE, params)]


def has_spoken(tx: ReadTransaction, workspace_id: str, run_id: str) -> bool:
    """Whether people have a message of the run."""
    return tx.one(_SPOKEN, {"workspace_id": workspace_id, "run_id": run_id}) is not None


def add_steer(tx: Transaction, fence: Fence, steering_id: str, event_id: str, payload: bytes, limit: int) -> int:
    """Queue a message for the executing run; answers its position. Raises LimitExceeded when `limit` of them wait."""
    check_fence(tx, fence)
    row = tx.one(_STEERS, {"workspace_id": fence.workspace_id, "run_id": fence.run_id})
    taken, waiting = row if row else (0, 0)
    if waiting >= limit:
        raise LimitExceeded(
            f"{limit} messages wait for run {fence.run_id} already.", reason=Reason.OVERLOADED, retry_after=5.0
        )
    tx.insert_many(
        "run_steers",
        [
            {
                "workspace_id": fence.workspace_id,
                "run_id": fence.run_id,
                "position": taken + 1,
                "steering_id": steering_id,
                "event_id": event_id,
                "state": SteerState.QUEUED,
                "payload": payload,
                "create_time": tx.now,
                "end_time": 0,
            }
        ],
    )
    return int(taken) + 1


def mark_injected(tx: Transaction, fence: Fence, positions: Sequence[int]) -> list[int]:
    """The runner gets these messages now; answers those that nobody has withdrawn meanwhile."""
    check_fence(tx, fence)
    mark: dict[str, SqlValue] = {
        "workspace_id": fence.workspace_id,
        "run_id": fence.run_id,
        "state": SteerState.INJECTED,
        "now": tx.now,
    }
    return [one for one in positions if tx.one(_END_STEER, {**mark, "position": one}) is not None]


def withdraw_steer(tx: Transaction, workspace_id: str, run_id: str, event_id: str) -> bool:
    """Its sender takes a message back; false where the run has it already, or never had it."""
    params: dict[str, SqlValue] = {
        "workspace_id": workspace_id,
        "run_id": run_id,
        "event_id": event_id,
        "now": tx.now,
    }
    return tx.one(_WITHDRAW_STEER, params) is not None


def drop_steers(tx: Transaction, workspace_id: str, run_id: str) -> list[Steer]:
    """Take the messages that never reached the run; each becomes a run of its own.

    Called in the unit that settles the run.
    """
    rows = tx.all(_DROP_STEERS, {"workspace_id": workspace_id, "run_id": run_id, "now": tx.now})
    steers = [Steer(*typed(row, (5, SteerState))) for row in rows]
    return sorted(steers, key=lambda steer: steer.position)


def _refusal(tx: Transaction, fence: Fence, after: int) -> Exception:
    check_fence(tx, fence)
    row = tx.one(_LAST, {"workspace_id": fence.workspace_id, "run_id": fence.run_id})
    last = row[0] if row else 0
    return Stale(
        f"The ledger of run {fence.run_id} ends at {last}, not at {after}: entries were appended by another.",
        reason=Reason.STALE_VERSION,
    )
