"""Reads: a few threads, each with a connection that cannot write.

A query sees every commit acknowledged before it began.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar

from portway.rpc.errors import LimitExceeded, Reason, Unavailable
from portway.server.storage_engine.jobs import Job, resolve_all
from portway.server.storage_engine.sqlite import SqliteTransaction, StorageFault
from portway.server.storage_engine.transaction import Query, ReadTransaction

T = TypeVar("T")
Read: TypeAlias = Job[ReadTransaction, Any]

QUEUE_LIMIT = 8_192
# Queries taken at once by one thread: enough to share the cost of waking the loop, few enough that a slow one holds
# up little.
_BATCH = 8


class Reader:
    """Runs queries, each on one consistent view of the database."""

    def __init__(
        self,
        transactions: Sequence[SqliteTransaction],
        *,
        queue_limit: int = QUEUE_LIMIT,
    ) -> None:
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

    async def run(self, query: Query[T]) -> T:
        """Run the query.

        Raises what the query raised; LimitExceeded when too many queries wait; Unavailable when the database cannot be
        used.
        """
        if self._closing:
            raise Unavailable(
                "The host is stopping; try again when it is back.", reason=Reason.SHUTTING_DOWN, retry_after=1.0
            )
        if len(self._pending) >= self._queue_limit:
            raise LimitExceeded(
                f"{self._queue_limit} reads are waiting; try again.", reason=Reason.OVERLOADED, retry_after=0.5
            )
        future: asyncio.Future[T] = self._loop.create_future()
        self._pending.append(Job(query, future))
        self._work.release()
        return await future

    def close(self) -> None:
        """Answer what is queued, then stop. It does not yield, like the writer's."""
        self._closing = True
        for _ in self._threads:
            self._work.release()
        for thread in self._threads:
            thread.join()

    def _serve(self, transaction: SqliteTransaction) -> None:
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

    def _run_one(self, transaction: SqliteTransaction, job: Read) -> None:
        before = transaction.statements
        try:
            transaction.begin("DEFERRED")
            try:
                job.result = job.work(transaction)
            finally:
                transaction.rollback()
        except StorageFault as fault:
            job.error = fault.problem
        except BaseException as error:  # noqa: BLE001 - whatever a query raises belongs to the one who waits for it
            job.error = error
        self.statements += transaction.statements - before

    def _tell(self, batch: list[Read]) -> None:
        try:
            self._loop.call_soon_threadsafe(resolve_all, batch)
        except RuntimeError:
            # The loop was closed without close(): nobody waits any more.
            self._closing = True
