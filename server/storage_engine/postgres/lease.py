"""The lease of the one host that owns the database, and the transaction that writes under it.

Every transaction of the writer begins by renewing the lease, in the same round trip. That is the fence: a host whose
lease was taken by another changes nothing any more, whatever its own clock says, because taking a lease and writing
under it need the same row. The row also counts commits, which tells after a broken connection whether the last commit
got through.
"""

import time

from portway.rpc.errors import Reason, Unavailable, WrongState
from portway.server.storage_engine.clock import SECOND, ForwardClock
from portway.server.storage_engine.faults import StorageFault
from portway.server.storage_engine.postgres.link import Link
from portway.server.storage_engine.postgres.transaction import CLOCK, PostgresTransaction

LEASE_SECONDS = 8.0
"""How long after its last sign a host counts as alive."""

BEAT_SECONDS = 2.0
_LOOK_SECONDS = 0.2
_HELD = """
SELECT holder, fencing_token, expire_time - {clock}, expire_time FROM leases
WHERE workspace_id = '' AND name = 'host'
"""
# The epoch is the fencing token; it grows even where one of the two was restored from a backup.
_TAKE = """
WITH next AS (
  SELECT GREATEST(COALESCE((SELECT MAX(epoch) FROM host_epochs), 0),
    COALESCE((SELECT fencing_token FROM leases WHERE workspace_id = '' AND name = 'host'), 0)) + 1 AS epoch
), taken AS (
  INSERT INTO leases (workspace_id, name, holder, fencing_token, expire_time)
  SELECT '', 'host', :holder, epoch, {clock} + :duration FROM next
  ON CONFLICT (workspace_id, name) DO UPDATE SET holder = excluded.holder, fencing_token = excluded.fencing_token,
    expire_time = excluded.expire_time
  WHERE leases.expire_time <= {clock} OR split_part(leases.holder, ' ', 1) = :identity
  RETURNING fencing_token
)
INSERT INTO host_epochs (epoch, process_id, start_time) SELECT fencing_token, :process_id, {clock} FROM taken
RETURNING epoch
"""
_RENEW = """
BEGIN; UPDATE leases SET commits = commits + 1, expire_time = {clock} + {duration}
WHERE workspace_id = '' AND name = 'host' AND fencing_token = {epoch} RETURNING commits, {clock}
"""
_RELEASE = """
UPDATE leases SET expire_time = 0 WHERE workspace_id = '' AND name = 'host' AND fencing_token = {epoch}
"""


def take_host_lease(link: Link, identity: str, process_id: int, place: str) -> int:
    """The new epoch. A lease that its holder left is waited for; one that is renewed meanwhile is not.

    `identity` names the data folder whose lock this process holds: an earlier holder with the same one is dead, and
    its lease is taken at once. Raises WrongState (IN_USE) while another host lives.
    """
    transaction = PostgresTransaction(link, ForwardClock())
    seen: int | None = None
    until = time.monotonic() + LEASE_SECONDS + 4.0
    while True:
        epoch, held = _try(transaction, identity, process_id, place)
        if epoch:
            return epoch
        holder, expire_time = held
        if seen is not None and expire_time != seen or time.monotonic() > until:
            raise WrongState(
                f"The database {link.shown} is in use by another Portway host ({holder.partition(' ')[2]}). Stop that "
                "one first, or start this one with another database.",
                reason=Reason.IN_USE,
            )
        seen = expire_time
        time.sleep(_LOOK_SECONDS)


def _try(transaction: PostgresTransaction, identity: str, process_id: int, place: str) -> tuple[int, tuple[str, int]]:
    transaction.begin_writing()
    try:
        row = transaction.one(
            _TAKE.format(clock=CLOCK),
            {
                "holder": f"{identity} {place}",
                "identity": identity,
                "duration": round(LEASE_SECONDS * SECOND),
                "process_id": process_id,
            },
        )
        held = transaction.one(_HELD.format(clock=CLOCK))
    except BaseException:
        transaction.rollback()
        raise
    transaction.commit()
    if held is None:
        raise AssertionError("a lease that could not be taken is held by somebody")
    return (int(row[0]) if row else 0), (str(held[0]), int(held[3]))


class LeasedTransaction(PostgresTransaction):
    """What the writer writes with."""

    beat_seconds: float | None = BEAT_SECONDS
    reads_only = False

    def __init__(self, link: Link, clock: ForwardClock, epoch: int) -> None:
        super().__init__(link, clock)
        duration = round(LEASE_SECONDS * SECOND)
        self._epoch = epoch
        self._renew = _RENEW.format(clock=CLOCK, epoch=epoch, duration=duration)
        self._number = 0

    def begin(self, careful: bool = False) -> None:
        answer = self._start(self._renew, careful)
        if not answer:
            self.rollback()
            raise StorageFault(
                Unavailable(
                    f"Another Portway host has taken over the database {self._link.shown}; this one writes nothing "
                    "any more and stops.",
                    reason=Reason.STALE_HOST,
                ),
                lasting=True,
            )
        self._number = int(bytes(answer[0]))

    def commit(self) -> None:
        number, self._begun = self._number, False
        try:
            self._link.control("COMMIT")
        except StorageFault as fault:
            if not fault.again:
                raise
            if not self._landed(number):
                raise

    def beat(self) -> None:
        self.begin()
        self.commit()

    def close(self) -> None:
        """Give the lease back, so that the next host need not wait for its end."""
        try:
            if self._link.connected:
                self._link.control(_RELEASE.format(epoch=self._epoch))
        except StorageFault:
            # It ends by itself.
            pass
        finally:
            super().close()

    def _landed(self, number: int) -> bool:
        """Whether the commit got through whose answer was lost: the row counts. An old session that still commits
        holds the row, so that this waits for its end."""
        try:
            self.begin()
        except StorageFault as fault:
            raise StorageFault(fault.problem, lasting=fault.lasting) from fault
        landed = self._number > number
        self.rollback()
        return landed
