"""Starting, fencing and ending the attempts of a run, inside a unit of work."""

import hashlib

from portway.rpc.errors import Conflict, NotFound, Reason, Stale, WrongState
from portway.server.runs.types import Fence, NewAttempt, NewRun, RunState, Settlement
from portway.server.storage_engine.rows import values
from portway.server.storage_engine.transaction import Params, ReadTransaction, SqlValue, Transaction

# One row tells everything: an attempt that was superseded, ended, or belongs to an older start of the host finds none.
_HELD = "workspace_id = :workspace_id AND run_id = :run_id AND attempt = :attempt AND epoch = :epoch"
_OPEN = "state IN ('queued', 'running', 'waiting')"
_EXECUTING = "state IN ('running', 'waiting')"

_CHECK = f"SELECT 1 FROM runs WHERE {_HELD} AND {_EXECUTING}"
_STATE = "SELECT state FROM runs WHERE workspace_id = :workspace_id AND run_id = :run_id"
_BEGIN = f"""
UPDATE runs SET state = 'running', attempt = attempt + 1, epoch = :new_epoch, deadline = :deadline,
  start_time = CASE WHEN start_time = 0 THEN :now ELSE start_time END
WHERE {_HELD} AND state = 'queued' RETURNING attempt
"""
_WAIT = f"UPDATE runs SET state = :state WHERE {_HELD} AND {_EXECUTING}"
_DEADLINE = f"UPDATE runs SET deadline = :deadline WHERE {_HELD} AND {_EXECUTING}"
_SETTLE = f"""
UPDATE runs SET state = :state, end_time = :now, finish_reason = :finish_reason, error_code = :error_code,
  error_message = :error_message, retryable = :retryable, input_tokens = :input_tokens,
  output_tokens = :output_tokens, cached_tokens = :cached_tokens, reasoning_tokens = :reasoning_tokens,
  cost_micros = :cost_micros, currency = :currency, model_id = :model_id, price_version = :price_version
WHERE {_HELD} AND {_OPEN}
"""
_END_ATTEMPT = """
UPDATE run_attempts SET state = :state, end_time = :now, outcome = :outcome
WHERE workspace_id = :workspace_id AND run_id = :run_id AND attempt = :attempt AND state = 'live'
"""
_REQUEUE = f"""
UPDATE runs SET state = 'queued', epoch = 0, available_time = :available_time WHERE {_HELD} AND {_EXECUTING}
"""
_SKIP = f"UPDATE runs SET attempt = attempt + 1 WHERE {_HELD} AND state = 'queued'"
_CANCEL = f"""
UPDATE runs SET cancel_time = :now, cancel_reason = :reason
WHERE workspace_id = :workspace_id AND run_id = :run_id AND cancel_time = 0 AND {_OPEN}
"""


def add_run(tx: Transaction, run: NewRun) -> Fence:
    """Queue a run; answers the fence that starts it."""
    row = values(run, state=RunState.QUEUED, attempt=0, epoch=0, last_sequence=0, create_time=tx.now)
    tx.insert_many("runs", [row])
    return Fence(run.workspace_id, run.run_id, 0, 0)


def freeze_snapshot(tx: Transaction, workspace_id: str, run_id: str, snapshot: bytes, context: bytes) -> None:
    """Keep what the run may touch (`snapshot`) and what its runner is given (`context`), serialized.

    Written once, with the first attempt; never changed. Raises Conflict the second time.
    """
    sql = """
    INSERT INTO run_snapshots (workspace_id, run_id, snapshot, context, sha256, create_time)
    VALUES (:workspace_id, :run_id, :snapshot, :context, :sha256, :now) ON CONFLICT (workspace_id, run_id) DO NOTHING
    """
    params: Params = {
        "workspace_id": workspace_id,
        "run_id": run_id,
        "snapshot": snapshot,
        "context": context,
        "sha256": hashlib.sha256(snapshot + context).digest(),
        "now": tx.now,
    }
    if not tx.execute(sql, params):
        raise Conflict(f"The snapshot of run {run_id!r} is frozen already.", reason=Reason.ALREADY_EXISTS)


def begin_attempt(tx: Transaction, fence: Fence, epoch: int, attempt: NewAttempt) -> Fence:
    """Start a queued run under this host's epoch; answers the fence of the new attempt.

    Raises Stale or WrongState when the run is not queued under `fence` any more.
    """
    params = _held(fence, new_epoch=epoch, deadline=attempt.deadline, now=tx.now)
    row = tx.one(_BEGIN, params)
    if row is None:
        raise _refusal(tx, fence)
    begun = Fence(fence.workspace_id, fence.run_id, int(row[0]), epoch)
    tx.insert_many(
        "run_attempts",
        [
            {
                "workspace_id": begun.workspace_id,
                "run_id": begun.run_id,
                "attempt": begun.attempt,
                "epoch": epoch,
                "state": "live",
                "token_id": attempt.token_id,
                "token_hash": attempt.token_hash,
                "plugin_id": attempt.plugin_id,
                "runtime_generation": attempt.runtime_generation,
                "start_time": tx.now,
            }
        ],
    )
    return begun


def check_fence(tx: ReadTransaction, fence: Fence) -> None:
    """Every write on behalf of an attempt begins with this.

    Raises Stale (ATTEMPT_SUPERSEDED) when another attempt or host has taken over; WrongState (RUN_FINISHED) when the
    run has ended.
    """
    if tx.one(_CHECK, _held(fence)) is None:
        raise _refusal(tx, fence)


def set_waiting(tx: Transaction, fence: Fence, waiting: bool) -> None:
    """Pause or go on with the run's clock while somebody decides."""
    state = RunState.WAITING if waiting else RunState.RUNNING
    if not tx.execute(_WAIT, _held(fence, state=state)):
        raise _refusal(tx, fence)


def set_deadline(tx: Transaction, fence: Fence, deadline: int) -> None:
    """Move the deadline, after the clock was paused."""
    if not tx.execute(_DEADLINE, _held(fence, deadline=deadline)):
        raise _refusal(tx, fence)


def settle_run(tx: Transaction, fence: Fence, settlement: Settlement) -> None:
    """End a run, exactly once: executing or still queued.

    The terminal entry goes into the ledger before, in the same unit.
    """
    failure, usage = settlement.failure, settlement.usage
    if not settlement.state.final:
        raise AssertionError("a run is settled with a final state")
    params = _held(
        fence,
        state=settlement.state,
        now=tx.now,
        finish_reason=settlement.finish_reason,
        error_code=failure.code,
        error_message=failure.message,
        retryable=int(failure.retryable),
    )
    params.update(values(usage))
    if not tx.execute(_SETTLE, params):
        raise _refusal(tx, fence)
    if fence.epoch:
        outcome = failure.code or settlement.finish_reason or settlement.state
        tx.execute(_END_ATTEMPT, _held(fence, state="ended", now=tx.now, outcome=outcome))


def requeue_run(tx: Transaction, fence: Fence, reason: str, available_time: int = 0) -> Fence:
    """Fence the live attempt off and queue the run again; answers the fence that starts its next attempt."""
    if not tx.execute(_REQUEUE, _held(fence, available_time=available_time)):
        raise _refusal(tx, fence)
    tx.execute(_END_ATTEMPT, _held(fence, state="superseded", now=tx.now, outcome=reason))
    return Fence(fence.workspace_id, fence.run_id, fence.attempt, 0)


def fence_off(tx: Transaction, fence: Fence, reason: str) -> None:
    """Nothing that holds this fence writes any more, whether it executes, is about to, or waits. The run stays open,
    for whoever ends it from its row."""
    if fence.epoch:
        requeue_run(tx, fence, reason)
    elif not tx.execute(_SKIP, _held(fence)):
        raise _refusal(tx, fence)


def request_cancel(tx: Transaction, workspace_id: str, run_id: str, reason: str) -> bool:
    """Note that somebody wants the run to stop; true the first time. A run that has ended stays as it is."""
    params: Params = {"workspace_id": workspace_id, "run_id": run_id, "reason": reason, "now": tx.now}
    if tx.execute(_CANCEL, params):
        return True
    if tx.one(_STATE, params) is None:
        raise NotFound.of("run", run_id)
    return False


def _held(fence: Fence, **more: str | int) -> dict[str, SqlValue]:
    return {
        "workspace_id": fence.workspace_id,
        "run_id": fence.run_id,
        "attempt": fence.attempt,
        "epoch": fence.epoch,
        **more,
    }


def _refusal(tx: ReadTransaction, fence: Fence) -> Exception:
    row = tx.one(_STATE, {"workspace_id": fence.workspace_id, "run_id": fence.run_id})
    if row is None:
        return NotFound.of("run", fence.run_id)
    if RunState(row[0]).final:
        return WrongState(f"The run {fence.run_id} has ended ({row[0]}).", reason=Reason.RUN_FINISHED)
    return Stale(
        f"Attempt {fence.attempt} of run {fence.run_id} was superseded; what it writes is refused.",
        reason=Reason.ATTEMPT_SUPERSEDED,
    )
