"""Where approvals are kept."""

from typing import Protocol

from portway.rpc.errors import NotFound, Stale, WrongState
from portway.server.approvals.types import Approval, ApprovalState, NewApproval
from portway.server.runs.attempts import check_fence
from portway.server.runs.types import Fence
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, typed, values
from portway.server.storage_engine.transaction import ReadTransaction, Row, SqlValue, Transaction

_COLUMNS = columns(Approval)
_BY_ID = f"SELECT {_COLUMNS} FROM approvals WHERE workspace_id = :workspace_id AND approval_id = :approval_id"
_PENDING = f"""
SELECT {_COLUMNS} FROM approvals WHERE workspace_id = :workspace_id AND state = 'pending'
ORDER BY create_time, approval_id LIMIT :limit
"""
_OF_RUN = f"""
SELECT {_COLUMNS} FROM approvals WHERE workspace_id = :workspace_id AND run_id = :run_id
ORDER BY create_time, approval_id LIMIT :limit
"""
_DECIDE = f"""
UPDATE approvals SET state = :state, decided_by = :decided_by, note = :note, decide_time = :now
WHERE workspace_id = :workspace_id AND approval_id = :approval_id AND state = 'pending' AND digest = :digest
  AND expire_time > :now
RETURNING {_COLUMNS}
"""
_WITHDRAW = """
UPDATE approvals SET state = 'withdrawn', decide_time = :now
WHERE workspace_id = :workspace_id AND run_id = :run_id AND state = 'pending'
"""
_EXPIRE = f"""
UPDATE approvals SET state = 'expired', decide_time = :now WHERE state = 'pending' AND expire_time <= :now
RETURNING {_COLUMNS}
"""


class Approvals(Protocol):
    """What can be asked about approvals."""

    async def approval(self, workspace_id: str, approval_id: str) -> Approval:
        """Raises NotFound."""

    async def pending(self, workspace_id: str, limit: int) -> list[Approval]:
        """Oldest first."""

    async def of_run(self, workspace_id: str, run_id: str, limit: int) -> list[Approval]:
        """Oldest first."""


def ask_approval(tx: Transaction, fence: Fence, approval: NewApproval) -> None:
    """Ask. Raises Stale or WrongState when the fence is lost."""
    check_fence(tx, fence)
    row = values(
        approval,
        workspace_id=fence.workspace_id,
        run_id=fence.run_id,
        attempt=fence.attempt,
        state=ApprovalState.PENDING,
        create_time=tx.now,
        decide_time=0,
    )
    tx.insert_many("approvals", [row])


def decide_approval(
    tx: Transaction,
    workspace_id: str,
    approval_id: str,
    *,
    digest: str,
    state: ApprovalState,
    decided_by: str,
    note: str = "",
) -> Approval:
    """Decide once, on exactly what `digest` says.

    Raises NotFound; Stale when the digest is another one; WrongState when it was decided, withdrawn, or has expired.
    """
    params: dict[str, SqlValue] = {
        "workspace_id": workspace_id,
        "approval_id": approval_id,
        "digest": digest,
        "state": state,
        "decided_by": decided_by,
        "note": note,
        "now": tx.now,
    }
    row = tx.one(_DECIDE, params)
    if row is not None:
        return _approval(row)
    found = read_approval(tx, workspace_id, approval_id)
    if found.digest != digest:
        raise Stale(f"The approval {approval_id} is for something else than what was decided on. Look at it again.")
    state_now = found.state if found.state != ApprovalState.PENDING else ApprovalState.EXPIRED
    raise WrongState(f"The approval {approval_id} is {state_now} and cannot be decided any more.")


def withdraw_approvals(tx: Transaction, workspace_id: str, run_id: str) -> int:
    """The run has ended: nobody needs to decide. Answers how many were open."""
    return tx.execute(_WITHDRAW, {"workspace_id": workspace_id, "run_id": run_id, "now": tx.now})


def expire_approvals(tx: Transaction) -> list[Approval]:
    """Close those whose time is over; answers them."""
    return [_approval(row) for row in tx.all(_EXPIRE, {"now": tx.now})]


def read_approval(tx: ReadTransaction, workspace_id: str, approval_id: str) -> Approval:
    """Raises NotFound."""
    row = tx.one(_BY_ID, {"workspace_id": workspace_id, "approval_id": approval_id})
    if row is None:
        raise NotFound.of("approval", approval_id)
    return _approval(row)


def _approval(row: Row) -> Approval:
    return Approval(*typed(row, (10, ApprovalState)))


class StoredApprovals:
    """Approvals in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def approval(self, workspace_id: str, approval_id: str) -> Approval:
        return await self._reader.look(lambda tx: read_approval(tx, workspace_id, approval_id))

    async def pending(self, workspace_id: str, limit: int) -> list[Approval]:
        params: dict[str, SqlValue] = {"workspace_id": workspace_id, "limit": limit}
        return [_approval(row) for row in await self._reader.run(lambda tx: tx.all(_PENDING, params))]

    async def of_run(self, workspace_id: str, run_id: str, limit: int) -> list[Approval]:
        params: dict[str, SqlValue] = {"workspace_id": workspace_id, "run_id": run_id, "limit": limit}
        return [_approval(row) for row in await self._reader.look(lambda tx: tx.all(_OF_RUN, params))]
