"""OperationsService on the wire."""

from pathlib import Path
from typing import Never

from portway.rpc.call import Call
from portway.rpc.errors import InvalidInput
from portway.server.operations.rotation import EncryptionState, KeyRotation
from portway.server.operations.usage import measure
from portway.server.retention.config import KINDS, RetentionConfig
from portway.server.retention.reaper import RetentionReaper
from portway.server.retention.store import StoredMarks
from portway.server.storage.forget import forget_plugin
from portway.server.storage_engine.database import Database
from portway.v1 import operations_pb2 as pb

_Call = Call[Never, Never]


class OperationsServicer:
    def __init__(
        self,
        *,
        database: Database,
        data: Path,
        retention: RetentionConfig,
        reaper: RetentionReaper,
        rotation: KeyRotation,
    ) -> None:
        self._database = database
        self._data = data
        self._retention = retention
        self._reaper = reaper
        self._rotation = rotation
        self._marks = StoredMarks(database.reader)

    async def GetStorageUsage(self, request: pb.GetStorageUsageRequest, call: _Call) -> pb.GetStorageUsageResponse:
        kept, progress = await measure(self._database, self._data), self._reaper.progress
        answer = pb.GetStorageUsageResponse(
            tables=[pb.TableUsage(table=one.table, row_count=one.rows, size_bytes=one.size) for one in kept.tables],
            database_bytes=kept.database,
            unused_bytes=kept.unused,
            log_bytes=kept.log,
            blob_bytes=kept.blobs,
            blob_count=kept.blob_files,
            backup_bytes=kept.backups,
            free_disk_bytes=kept.free_disk,
            pass_count=progress.passes,
            problem=progress.problem,
        )
        answer.longest_unit.FromMicroseconds(round(progress.longest * 1_000_000))
        totals = {kind: (removed, last) for kind, removed, last in await self._marks.totals()}
        for kind in KINDS:
            removed, last = totals.get(kind, (0, 0))
            usage = answer.retention.add(kind=kind, removed_count=removed)
            if self._retention.seconds(kind):
                usage.keep.seconds = self._retention.seconds(kind)
            if last:
                usage.last_time.FromMicroseconds(last)
        return answer

    async def ApplyRetention(self, request: pb.ApplyRetentionRequest, call: _Call) -> pb.ApplyRetentionResponse:
        for kind in request.kinds:
            if kind not in KINDS:
                raise InvalidInput.field("kinds", f"must be of {', '.join(KINDS)}")
        removed = await self._reaper.apply(request.kinds, request.workspace_id, dry=request.dry_run)
        return pb.ApplyRetentionResponse(
            removed=[
                pb.RemovedRows(workspace_id=one.workspace_id, kind=one.kind, row_count=one.rows) for one in removed
            ]
        )

    async def DeletePluginData(self, request: pb.DeletePluginDataRequest, call: _Call) -> pb.DeletePluginDataResponse:
        count = await forget_plugin(self._database, request.plugin_id)
        return pb.DeletePluginDataResponse(object_count=count)

    async def GetEncryption(self, request: pb.GetEncryptionRequest, call: _Call) -> pb.GetEncryptionResponse:
        return pb.GetEncryptionResponse(encryption=_encryption(await self._rotation.state()))

    async def RotateEncryptionKey(
        self, request: pb.RotateEncryptionKeyRequest, call: _Call
    ) -> pb.RotateEncryptionKeyResponse:
        state = await self._rotation.rotate(call.caller, request.request_id)
        return pb.RotateEncryptionKeyResponse(encryption=_encryption(state))


def _encryption(state: EncryptionState) -> pb.EncryptionState:
    return pb.EncryptionState(key_id=state.key_id, old_key_ids=state.old_key_ids, remaining_count=state.remaining)
