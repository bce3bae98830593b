"""What a restored host must not believe: that what was on its way when the backup was made still is.

Between backup and restore the old host went on. What it sent then, the restored rows call pending; what it ran, they
call queued. Doing all that again would tell people twice. So nothing goes on by itself: a person looks, and decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from portway.rpc.cursor import Cursor, CursorCodec
from portway.server.audit.store import append_audit
from portway.server.audit.types import NewAuditRecord
from portway.server.runs.journal import CURSOR_EPOCH, run_stream
from portway.server.storage_engine.clock import SECOND
from portway.server.storage_engine.transaction import Row, Transaction
from portway.v1 import run_pb2

REASON = "host.restored"
_TOLD = "The host was restored from a backup while this run was open. Send the message again if it still matters."

_PARK = """
UPDATE deliveries SET state = 'unknown', next_attempt_time = 0, error_code = :reason, error_message = :message
WHERE state = 'pending' RETURNING workspace_id
"""
_OPEN_RUNS = """
SELECT workspace_id, run_id, attempt, last_sequence FROM runs WHERE state IN ('queued', 'running', 'waiting')
"""
_END_RUN = """
UPDATE runs SET state = 'failed', end_time = :now, error_code = :reason, error_message = :message, retryable = 1,
  last_sequence = :sequence
WHERE workspace_id = :workspace_id AND run_id = :run_id
"""
_STATEMENTS = (
    "UPDATE run_attempts SET state = 'ended', end_time = :now, outcome = :reason WHERE state = 'live'",
    "UPDATE run_steers SET state = 'dropped', end_time = :now WHERE state = 'queued'",
    "UPDATE approvals SET state = 'withdrawn', decide_time = :now, note = :reason WHERE state = 'pending'",
    # Not the one that this very transaction holds, on a database that leases itself to a host.
    "DELETE FROM leases WHERE workspace_id <> ''",
)
# An epoch is the second of a restore or follows one: it is above that of every host that ever ran on older data, and
# two restores of one backup never have the same.
_EPOCH = """
INSERT INTO host_epochs (epoch, process_id, start_time)
SELECT CASE WHEN COALESCE(MAX(epoch), 0) >= :second THEN MAX(epoch) + 1 ELSE :second END, 0, :now
FROM host_epochs WHERE true RETURNING epoch
"""


@dataclass(frozen=True, slots=True)
class Settled:
    """What was put aside."""

    parked_deliveries: int
    ended_runs: int
    epoch: int


def settle(tx: Transaction, source: str, cursors: CursorCodec | None = None) -> Settled:
    """Park what was pending, end what was open, and take an epoch above every earlier one.

    `source` names the archive in the audit. `cursors` where the host's keys are there.
    """
    message = f"The host was restored from {source}; whether this was sent since then is not known."
    parked = tx.all(_PARK, {"reason": REASON, "message": message})
    ended = _end_runs(tx, cursors)
    for sql in _STATEMENTS:
        tx.execute(sql, {"now": tx.now, "reason": REASON})
    epoch = tx.one(_EPOCH, {"second": tx.now // SECOND, "now": tx.now})
    if epoch is None:
        raise AssertionError("an INSERT … RETURNING without conflict answers one row")
    for workspace_id in _workspaces(tx):
        parked_here, ended_here = _of(parked, workspace_id), _of(ended, workspace_id)
        append_audit(
            tx,
            [
                NewAuditRecord(
                    workspace_id=workspace_id,
                    action="host.restore",
                    resource=source,
                    allowed=True,
                    details=f"{parked_here} deliveries parked, {ended_here} runs ended, epoch {epoch[0]}",
                )
            ],
        )
    return Settled(len(parked), len(ended), int(epoch[0]))


def _end_runs(tx: Transaction, cursors: CursorCodec | None) -> list[Row]:
    """End what was open. Nobody is told: people may have had the answer since."""
    rows = tx.all(_OPEN_RUNS)
    for workspace_id, run_id, attempt, last in rows:
        event = run_pb2.RunEvent(run_id=run_id, attempt=attempt, sequence=last + 1)
        event.run_failed.error.code = REASON
        event.run_failed.error.message = _TOLD
        event.run_failed.error.retryable = True
        event.time.FromMicroseconds(tx.now)
        if cursors is not None:
            event.cursor = cursors.write(run_stream(workspace_id, run_id), Cursor(CURSOR_EPOCH, last + 1))
        entry = {"workspace_id": workspace_id, "run_id": run_id, "sequence": last + 1, "attempt": attempt}
        payload = event.SerializeToString()
        tx.insert_many("run_events", [{**entry, "kind": "run_failed", "payload": payload, "create_time": tx.now}])
        tx.execute(
            _END_RUN,
            {
                "now": tx.now,
                "reason": REASON,
                "message": _TOLD,
                "sequence": last + 1,
                "workspace_id": workspace_id,
                "run_id": run_id,
            },
        )
    return rows


def _workspaces(tx: Transaction) -> list[str]:
    return [str(row[0]) for row in tx.all("SELECT workspace_id FROM workspaces ORDER BY workspace_id")]


def _of(rows: Sequence[Sequence[object]], workspace_id: str) -> int:
    return sum(1 for row in rows if row[0] == workspace_id)
