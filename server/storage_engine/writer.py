"""The only way to change the database: units of work, committed in groups by one thread.

Callers that wait at the same time share one transaction and one fsync. A unit that raises takes nothing of the others
with it.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from portway.rpc.errors import LimitExceeded, Reason, Unavailable
from portway.rpc.metrics.families import CALL_SECONDS, Histogram
from portway.server.storage_engine.faults import StorageFault, unexpected
from portway.server.storage_engine.held import HeldTransaction
from portway.server.storage_engine.jobs import Job, resolve_all
from portway.server.storage_engine.pace import Pace
from portway.server.storage_engine.transaction import Transaction, Unit

T = TypeVar("T")
Write: TypeAlias = Job[Transaction, Any]

GROUP_LIMIT = 64
QUEUE_LIMIT = 8_192
# A group that met a deadlock, or lost its connection before it was committed, is run again.
_ATTEMPTS = 5


@dataclass(slots=True)
class WriterCounters:
    """What the writer has done since it was started. `seconds`: from a group's begin to its place on disk."""

    units: int = 0
    failed_units: int = 0
    commits: int = 0
    statements: int = 0
    retried_groups: int = 0
    seconds: Histogram = field(default_factory=lambda: Histogram(CALL_SECONDS))


class Writer:
    """Runs units one after the other, in the order in which they were submitted.

    A unit is acknowledged only after its group is on disk. Cancelling the wait takes back a unit that was not begun;
    one that was begun is committed all the same.
    """

    def __init__(
        self,
        transaction: HeldTransaction,
        *,
        group_limit: int = GROUP_LIMIT,
        queue_limit: int = QUEUE_LIMIT,
    ) -> None:
        self._transaction = transaction
        self._group_limit = group_limit
        self._queue_limit = queue_limit
        self._pending: deque[Write] = deque()
        self._submitted = 0
        self._pace = Pace()
        self._wake = threading.Event()
        self._closing = False
        self._fault: StorageFault | None = None
        self._loop = asyncio.get_running_loop()
        self._broken: asyncio.Future[None] = self._loop.create_future()
        self.counters = WriterCounters()
        self._thread = threading.Thread(target=self._serve, name="portway-writer", daemon=True)
        self._thread.start()

    @property
    def waiting_count(self) -> int:
        return len(self._pending)

    async def run(self, unit: Unit[T], then: Callable[[T], None] | None = None) -> T:
        """Run the unit and wait until it is on disk; `then` is called when it is, also where nobody waits any more.

        Raises what the unit raised; LimitExceeded when too many units wait or the disk is full; Unavailable when the
        database cannot be used.
        """
        done = self.submit(unit)
        if then is None:
            return await done
        done.add_done_callback(
            lambda future: None if future.cancelled() or future.exception() else then(future.result())
        )
        # The caller may go away; what it changed is on its way to the disk and must not be kept from those who ask.
        return await asyncio.shield(done)

    def submit(self, unit: Unit[T]) -> "asyncio.Future[T]":
        """Queue the unit; the future is done when it is on disk. For callers that keep several in flight, in order."""
        if self._closing:
            raise Unavailable(
                "The host is stopping; try again when it is back.", reason=Reason.SHUTTING_DOWN, retry_after=1.0
            )
        if self._fault is not None:
            raise self._fault.problem
        if len(self._pending) >= self._queue_limit:
            raise LimitExceeded(
                f"{self._queue_limit} writes are waiting for the disk; try again.",
                reason=Reason.OVERLOADED,
                retry_after=0.5,
            )
        future: asyncio.Future[T] = self._loop.create_future()
        self._pending.append(Job(unit, future))
        self._submitted += 1
        self._wake.set()
        return future

    async def broken(self) -> None:
        """Wait until the writer cannot go on, and raise why. Whoever supervises the host waits here."""
        await asyncio.shield(self._broken)

    def close(self) -> None:
        """Commit what is queued, then stop. It does not yield: a cancelled shutdown leaves nothing half done."""
        self._closing = True
        self._transaction.stop_waiting()
        self._wake.set()
        self._thread.join()
        if self._broken.done():
            self._broken.exception()
        else:
            self._broken.cancel()

    def _serve(self) -> None:
        transaction = self._transaction
        try:
            while True:
                if not self._wake.wait(transaction.beat_seconds):
                    self._beat(transaction)
                    continue
                self._wake.clear()
                while self._pending:
                    self._gather()
                    if group := self._take():
                        self._run_group(transaction, group)
                if self._closing and not self._pending:
                    return
        finally:
            transaction.close()

    def _beat(self, transaction: HeldTransaction) -> None:
        try:
            if self._fault is None:
                transaction.beat()
        except StorageFault as fault:
            # A server that is away is tried again with the next group, or the next time.
            if fault.lasting:
                self._fail(transaction, [], fault)

    def _gather(self) -> None:
        if seconds := self._pace.wait(self._submitted, len(self._pending)):
            time.sleep(seconds)

    def _take(self) -> list[Write]:
        group: list[Write] = []
        pending = self._pending
        while pending and len(group) < self._group_limit:
            job = pending.popleft()
            if not job.future.cancelled():
                group.append(job)
        return group

    def _run_group(self, transaction: HeldTransaction, group: list[Write]) -> None:
        try:
            if self._fault is not None:
                raise self._fault
            begun = time.perf_counter()
            self._persist(transaction, group)
            self.counters.seconds.add(time.perf_counter() - begun)
        except StorageFault as fault:
            self._fail(transaction, group, fault)
        except Exception as error:  # noqa: BLE001 - this thread is a supervisor: it must answer everybody who waits
            self._fail(transaction, group, unexpected(error))
        counters = self.counters
        counters.units += len(group)
        counters.failed_units += sum(1 for job in group if job.error is not None)
        counters.statements = transaction.statements
        self._tell(resolve_all, group)

    def _persist(self, transaction: HeldTransaction, group: list[Write]) -> None:
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._attempt(transaction, group)
            except StorageFault as fault:
                if not fault.again:
                    raise
                transaction.rollback()
                self.counters.retried_groups += 1
        self._attempt(transaction, group)

    def _attempt(self, transaction: HeldTransaction, group: list[Write]) -> None:
        for job in group:
            job.result = job.error = None
        transaction.begin()
        if not self._run_together(transaction, group):
            # A unit failed after it had changed something: start over, with each unit held apart from the others.
            transaction.rollback()
            self.counters.retried_groups += 1
            transaction.begin(careful=True)
            for job in group:
                self._run_apart(transaction, job)
        transaction.commit()
        self.counters.commits += 1

    def _run_together(self, transaction: HeldTransaction, group: list[Write]) -> bool:
        for job in group:
            before = transaction.changes
            try:
                job.result = job.work(transaction)
            except StorageFault:
                raise
            except BaseException as error:  # noqa: BLE001 - whatever a unit raises belongs to the one who waits for it
                if transaction.changes != before:
                    return False
                job.error = error
            if transaction.spoiled:
                return False
            if transaction.fault is not None:
                raise transaction.fault
        return True

    def _run_apart(self, transaction: HeldTransaction, job: Write) -> None:
        job.result = job.error = None
        transaction.savepoint()
        try:
            job.result = job.work(transaction)
        except StorageFault:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a unit raises belongs to the one who waits for it
            job.error = error
        if transaction.fault is not None:
            raise transaction.fault
        if job.error is None:
            transaction.release()
        else:
            transaction.rollback_to_savepoint()

    def _fail(self, transaction: HeldTransaction, group: list[Write], fault: StorageFault) -> None:
        try:
            transaction.rollback()
        except StorageFault as second:
            fault = second
        for job in group:
            job.error = fault.problem
        if fault.lasting and self._fault is None:
            # After a failed fsync nobody knows what is on disk: stop writing, loudly.
            self._fault = fault
            self._tell(self._break, fault)

    def _break(self, fault: StorageFault) -> None:
        if not self._broken.done():
            self._broken.set_exception(fault.problem)

    def _tell(self, callback: Callable[[Any], None], argument: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, argument)
        except RuntimeError:
            # The loop was closed without close(): nobody waits any more.
            self._closing = True
