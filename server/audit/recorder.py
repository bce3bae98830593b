"""Writing decisions down without holding anybody up: records are queued and written in groups."""

import asyncio
from collections import deque

import structlog

from portway.rpc.errors import PortwayError
from portway.server.audit.store import append_audit
from portway.server.audit.types import NewAuditRecord
from portway.server.storage_engine.writer import Writer

QUEUE_LIMIT = 10_000
GROUP_LIMIT = 256
_AGAIN_SECONDS = 1.0


class AuditRecorder:
    """`run` must be running. What cannot be written for now is kept and tried again; past the limit it is counted and
    said in the log, because an audit with a silent hole is worse than none."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._queue: deque[NewAuditRecord] = deque()
        self._queued = asyncio.Event()
        self._log = structlog.get_logger("portway.server.audit")
        self.dropped = 0

    @property
    def waiting_count(self) -> int:
        return len(self._queue)

    def record(self, record: NewAuditRecord) -> None:
        """Queue a record. Never blocks and never raises."""
        if len(self._queue) >= QUEUE_LIMIT:
            self.dropped += 1
            self._log.error("an audit record was dropped", action=record.action, dropped=self.dropped)
            return
        self._queue.append(record)
        self._queued.set()

    async def run(self) -> None:
        """Writes until it is cancelled; what is queued then is handed to the writer, which closes later."""
        try:
            while True:
                await self._queued.wait()
                self._queued.clear()
                while self._queue:
                    if not await self._write(self._next_group()):
                        await asyncio.sleep(_AGAIN_SECONDS)
        finally:
            while self._queue and await self._write(self._next_group()):
                pass

    async def _write(self, group: list[NewAuditRecord]) -> bool:
        for _ in group:
            self._queue.popleft()
        try:
            # Once handed over it is written, whoever still waits: a second try would write it twice.
            await asyncio.shield(self._writer.submit(lambda tx: append_audit(tx, group)))
        except PortwayError as error:
            self._queue.extendleft(reversed(group))
            self._log.error("the audit cannot be written for now", error=str(error), waiting=len(self._queue))
            return False
        return True

    def _next_group(self) -> list[NewAuditRecord]:
        """The first records of one workspace: the sequence is the workspace's."""
        workspace_id = self._queue[0].workspace_id
        group: list[NewAuditRecord] = []
        for record in self._queue:
            if record.workspace_id != workspace_id or len(group) == GROUP_LIMIT:
                break
            group.append(record)
        return group
