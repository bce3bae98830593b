"""AuditService on the wire."""

from contextlib import aclosing
from typing import Never

from portway.rpc.call import Call
from portway.rpc.cursor import Cursor, CursorCodec
from portway.rpc.ids import derived_id
from portway.server.audit.store import NEWEST, Audit
from portway.server.audit.types import AuditFilter, AuditRecord
from portway.server.audit.watch import Missing, watch_audit
from portway.v1 import audit_pb2, stream_pb2

DEFAULT_PAGE = 50
CURSOR_EPOCH = 1
THE_HOST = "host"


class AuditServicer:
    def __init__(self, audit: Audit, cursors: CursorCodec) -> None:
        self._audit = audit
        self._cursors = cursors

    async def ListAuditEntries(
        self, request: audit_pb2.ListAuditEntriesRequest, call: Call[Never, Never]
    ) -> audit_pb2.ListAuditEntriesResponse:
        workspace_id, size = call.caller.workspace_id, request.page_size or DEFAULT_PAGE
        which = _filter(request)
        listing = f"audit\0{workspace_id}\0{which}"
        before = int(self._cursors.read_page(request.page_token, listing)) if request.page_token else NEWEST
        found = await self._audit.page(workspace_id, which, before, size)
        return audit_pb2.ListAuditEntriesResponse(
            audit_entries=[self._message(record) for record in found],
            next_page_token=self._cursors.write_page(listing, str(found[-1].sequence)) if len(found) == size else "",
        )

    async def WatchAudit(
        self, request: audit_pb2.WatchAuditRequest, call: Call[None, audit_pb2.WatchAuditResponse]
    ) -> None:
        workspace_id = call.caller.workspace_id
        which = _filter(request)
        after: int | None = None
        if request.after_cursor:
            after = self._cursors.read(request.after_cursor, _stream(workspace_id), field="after_cursor").sequence
        async with aclosing(watch_audit(self._audit, workspace_id, which, after, call.draining)) as batches:
            async for batch in batches:
                if isinstance(batch, Missing):
                    await call.write(audit_pb2.WatchAuditResponse(gap=self._gap(workspace_id, batch)))
                else:
                    await call.write(audit_pb2.WatchAuditResponse(entries=[self._message(record) for record in batch]))

    def _gap(self, workspace_id: str, missing: Missing) -> stream_pb2.StreamGap:
        return stream_pb2.StreamGap(
            reason=stream_pb2.GAP_REASON_EXPIRED if missing.dropped else stream_pb2.GAP_REASON_EPOCH,
            resume_cursor=self._cursors.write(_stream(workspace_id), Cursor(CURSOR_EPOCH, missing.resume)),
            missing_count=missing.count,
        )

    def _message(self, record: AuditRecord) -> audit_pb2.AuditEntry:
        message = audit_pb2.AuditEntry(
            audit_id=derived_id("aud", record.workspace_id, str(record.sequence)),
            actor=record.token_id or record.run_id or record.subject or THE_HOST,
            action=record.action,
            resource=record.resource,
            scope=record.scope,
            allowed=record.allowed,
            reason=record.reason,
            run_id=record.run_id,
            runner_id=record.runner_id,
            sequence=record.sequence,
            peer=record.peer,
            cursor=self._cursors.write(_stream(record.workspace_id), Cursor(CURSOR_EPOCH, record.sequence)),
        )
        message.time.FromMicroseconds(record.time)
        more = {"role": record.role, "subject": record.subject, "trace_id": record.trace_id, "text": record.details}
        message.details.update({key: value for key, value in more.items() if value})
        return message


def _stream(workspace_id: str) -> str:
    return f"audit/{workspace_id}"


def _filter(request: audit_pb2.ListAuditEntriesRequest | audit_pb2.WatchAuditRequest) -> AuditFilter:
    after = before = 0
    if isinstance(request, audit_pb2.ListAuditEntriesRequest):
        after = request.after_time.ToMicroseconds() if request.HasField("after_time") else 0
        before = request.before_time.ToMicroseconds() if request.HasField("before_time") else 0
    return AuditFilter(
        action=request.action,
        run_id=request.run_id,
        refused_only=request.refused_only,
        actor=request.actor,
        resource=request.resource,
        after_time=after,
        before_time=before,
    )
