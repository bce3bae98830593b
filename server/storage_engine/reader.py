"""Reads: a few threads, each with a connection that cannot write, and one connection of the event loop's own.

A query sees every commit acknowledged before it began. A brief query costs a few microseconds, and to hand it to a
thread and its answer back costs fifty times that: those run on the loop.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

from portway.rpc.errors import LimitExceeded, Reason, Unavailable
from portway.server.storage_engine.faults import StorageFault
from portway.server.storage_engine.held import HeldTransaction
from portway.server.storage_engine.jobs import Job, resolve_all
from portway.server.storage_engine.transaction import Query, ReadTransaction

T = TypeVar("T")
Read: TypeAlias = Job[ReadTransaction, Any]

QUEUE_LIMIT = 8_192
# Queries taken at once by one thread: enough to share the cost of waking the loop, few enough that a slow one holds
# up little.
_BATCH = 8
_ATTEMPTS = 3
# A look that takes longer than this waits for a disk: for a while the threads do the waiting.
_SLOW_LOOK_SECONDS = 0.01
_SLOW_FOR_SECONDS = 1.0


class Reader:
    """Runs queries, each on one consistent view of the database."""

    def __init__(
        self,
        transactions: Sequence[HeldTransaction],
        own: HeldTransaction | None,
        *,
        queue_limit: int = QUEUE_LIMIT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`transactions` are the threads'; `own` is the loop's and does not wait for locks; None where a
        network lies between, so that every query goes to the threads."""
        self._transactions = transactions
        self._own = own
        self._clock = clock
        self._slow_until = float("-inf")
        self._queue_limit = queue_limit
        self._pending: deque[Read] = deque()
        self._work = threading.Semaphore(0)
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self.statements = 0
        self._threads = [
            threading.Thread(target=self._serve, args=(transaction,), name=f"portway-reader-{number}", daemon=True)
            for number, transaction in enumerate(transactions)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting_count(self) -> int:
        return len(self._pending)

    async def run(self, query: Query[T]) -> T:
        """Run the query.

        Raises what the query raised; LimitExceeded when too many queries wait; Unavailable when the database cannot be
        used.
        """
        self._check_open()
        if len(self._pending) >= self._queue_limit:
            raise LimitExceeded(
                f"{self._queue_limit} reads are waiting; try again.", reason=Reason.OVERLOADED, retry_after=0.5
            )
        future: asyncio.Future[T] = self._loop.create_future()
        self._pending.append(Job(query, future))
        self._work.release()
        return await future

    async def look(self, query: Query[T]) -> T:
        """Run a brief query at once: a row by its key, a page by an index. Nothing else runs meanwhile.

        Goes to the threads while the disk is slow or the file locked. Raises what `run` raises.
        """
        self._check_open()
        own, begun = self._own, self._clock()
        if own is None or begun < self._slow_until:
            return await self.run(query)
        before = own.statements
        try:
            own.begin()
            try:
                return query(own)
            finally:
                own.rollback()
        except StorageFault:
            return await self.run(query)
        finally:
            self.statements += own.statements - before
            ended = self._clock()
            if ended - begun > _SLOW_LOOK_SECONDS:
                self._slow_until = ended + _SLOW_FOR_SECONDS

    def close(self) -> None:
        """Answer what is queued, then stop. It does not yield, like the writer's."""
        self._closing = True
        for transaction in self._transactions:
            transaction.stop_waiting()
        for _ in self._threads:
            self._work.release()
        for thread in self._threads:
            thread.join()
        if self._own is not None:
            self._own.close()

    def _check_open(self) -> None:
        if self._closing:
            raise Unavailable(
                "The host is stopping; try again when it is back.", reason=Reason.SHUTTING_DOWN, retry_after=1.0
            )

    def _serve(self, transaction: HeldTransaction) -> None:
        try:
            while True:
                self._work.acquire()
                while batch := self._take():
                    for job in batch:
                        self._run_one(transaction, job)
                    self._tell(batch)
                if self._closing:
                    return
        finally:
            transaction.close()

    def _take(self) -> list[Read]:
        # A fair share of what waits: with little to do each thread takes one, so that a slow query delays nobody else.
        share = min(_BATCH, 1 + len(self._pending) // len(self._threads))
        batch: list[Read] = []
        while len(batch) < share:
            try:
                job = self._pending.popleft()
            except IndexError:
                break
            if not job.future.cancelled():
                batch.append(job)
        return batch

    def _run_one(self, transaction: HeldTransaction, job: Read) -> None:
        before = transaction.statements
        try:
            job.result = self._answer(transaction, job)
        except StorageFault as fault:
            job.error = fault.problem
        except BaseException as error:  # noqa: BLE001 - whatever a query raises belongs to the one who waits for it
            job.error = error
        self.statements += transaction.statements - before

    def _answer(self, transaction: HeldTransaction, job: Read) -> Any:
        for left in reversed(range(_ATTEMPTS)):
            try:
                transaction.begin()
                try:
                    return job.work(transaction)
                finally:
                    transaction.rollback()
            except StorageFault as fault:
                # A connection that was lost: the next attempt makes a new one.
                if not fault.again or not left:
                    raise
        raise AssertionError("the last attempt answers or raises")

    def _tell(self, batch: list[Read]) -> None:
        try:
            self._loop.call_soon_threadsafe(resolve_all, batch)
        except RuntimeError:
            # The loop was closed without close(): nobody waits any more.
            self._closing = True
