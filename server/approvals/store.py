"""Where approvals are kept."""

from typing import Protocol

from portway.rpc.errors import Conflict, NotFound, Reason, WrongState
from portway.server.approvals.types import Approval, ApprovalFilter, ApprovalState, NewApproval
from portway.server.runs.attempts import check_fence
from portway.server.runs.types import Fence
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, typed, values
from portway.server.storage_engine.transaction import Params, ReadTransaction, Row, SqlValue, Transaction

_COLUMNS = columns(Approval)
_BY_ID = f"SELECT {_COLUMNS} FROM approvals WHERE workspace_id = :workspace_id AND approval_id = :approval_id"
_PAGE = f"""
SELECT {_COLUMNS} FROM approvals
WHERE workspace_id = :workspace_id AND (create_time, approval_id) < (:create_time, :approval_id)
  AND (:run_id = '' OR run_id = :run_id) AND (:pending_only = 0 OR state = 'pending')
ORDER BY create_time DESC, approval_id DESC LIMIT :limit
"""
_OF_RUN = f"""
SELECT {_COLUMNS} FROM approvals WHERE workspace_id = :workspace_id AND run_id = :run_id
ORDER BY create_time, approval_id LIMIT :limit
"""
# A run that has ended, or that somebody wants to stop, is not given what it waits for.
_DECIDE = f"""
UPDATE approvals SET state = :state, decided_by = :decided_by, note = :note, decide_time = :now
WHERE workspace_id = :workspace_id AND approval_id = :approval_id AND state = 'pending' AND digest = :digest
  AND expire_time > :now AND EXISTS (
    SELECT 1 FROM runs WHERE runs.workspace_id = approvals.workspace_id AND runs.run_id = approvals.run_id
      AND runs.cancel_time = 0 AND runs.state IN ('queued', 'running', 'waiting'))
RETURNING {_COLUMNS}
"""
_WITHDRAW = f"""
UPDATE approvals SET state = 'withdrawn', decide_time = :now
WHERE workspace_id = :workspace_id AND run_id = :run_id AND state = 'pending' RETURNING {_COLUMNS}
"""
_WITHDRAW_ONE = """
UPDATE approvals SET state = 'withdrawn', decide_time = :now
WHERE workspace_id = :workspace_id AND approval_id = :approval_id AND state = 'pending'
"""
_EXPIRE = f"""
UPDATE approvals SET state = 'expired', decide_time = :now WHERE state = 'pending' AND expire_time <= :now
RETURNING {_COLUMNS}
"""
_DUE = "SELECT MIN(expire_time) FROM approvals WHERE state = 'pending'"

FIRST_PAGE = (2**62, "")


class Approvals(Protocol):
    """What can be asked about approvals."""

    async def approval(self, workspace_id: str, approval_id: str) -> Approval:
        """Raises NotFound."""

    async def page(
        self, workspace_id: str, which: ApprovalFilter, after: tuple[int, str], limit: int
    ) -> list[Approval]:
        """Newest first, after (create_time, approval_id) (FIRST_PAGE to begin)."""

    async def due(self) -> int:
        """When the next pending one expires, in microseconds; 0 where none is pending."""

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
    """Decide once, on exactly what `digest` says; the same decision again answers with the first one.

    Raises NotFound; Conflict when it was decided otherwise; WrongState: APPROVAL_STALE when the digest is another one,
    or the run has ended or is to stop, APPROVAL_EXPIRED when its time is over.
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
        raise WrongState(
            f"The approval {approval_id} is for something else than what was decided on. Look at it again.",
            reason=Reason.APPROVAL_STALE,
        )
    if found.state is state:
        return found
    raise _closed(found, tx.now)


def _closed(found: Approval, now: int) -> Conflict | WrongState:
    if found.state in (ApprovalState.APPROVED, ApprovalState.DENIED):
        return Conflict(
            f"The approval {found.approval_id} was {found.state} by {found.decided_by} before.",
            reason=Reason.ALREADY_EXISTS,
        )
    if found.state is ApprovalState.EXPIRED or (found.state is ApprovalState.PENDING and found.expire_time <= now):
        return WrongState(
            f"The time for the approval {found.approval_id} is over; nothing was approved. Ask the agent again.",
            reason=Reason.APPROVAL_EXPIRED,
        )
    return WrongState(
        f"The run {found.run_id} has ended or was asked to stop, so nothing is approved any more.",
        reason=Reason.APPROVAL_STALE,
    )


def withdraw_approvals(tx: Transaction, workspace_id: str, run_id: str) -> list[Approval]:
    """The run has ended: nobody needs to decide. Answers those that were open."""
    params: Params = {"workspace_id": workspace_id, "run_id": run_id, "now": tx.now}
    return [_approval(row) for row in tx.all(_WITHDRAW, params)]


def withdraw_one(tx: Transaction, workspace_id: str, approval_id: str) -> bool:
    """The call that it is for was given up; false where it was decided meanwhile."""
    params: Params = {"workspace_id": workspace_id, "approval_id": approval_id, "now": tx.now}
    return tx.execute(_WITHDRAW_ONE, params) > 0


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

    async def page(
        self, workspace_id: str, which: ApprovalFilter, after: tuple[int, str], limit: int
    ) -> list[Approval]:
        params: Params = {
            "workspace_id": workspace_id,
            "run_id": which.run_id,
            "pending_only": int(which.pending_only),
            "create_time": after[0],
            "approval_id": after[1],
            "limit": limit,
        }
        return [_approval(row) for row in await self._reader.run(lambda tx: tx.all(_PAGE, params))]

    async def due(self) -> int:
        row = await self._reader.run(lambda tx: tx.one(_DUE, {}))
        return int(row[0] or 0) if row else 0

    async def of_run(self, workspace_id: str, run_id: str, limit: int) -> list[Approval]:
        params: dict[str, SqlValue] = {"workspace_id": workspace_id, "run_id": run_id, "limit": limit}
        return [_approval(row) for row in await self._reader.look(lambda tx: tx.all(_OF_RUN, params))]
