"""Larger bytes that the host keeps: for a plugin, an agent, or the workspace. Runs ask for them, and components."""

from collections.abc import AsyncIterator

from portway.rpc.errors import InvalidInput
from portway.server.components.scope import ComponentScope
from portway.server.runner_calls.emit import Emit
from portway.server.runner_calls.paying import pay_bytes
from portway.server.runner_calls.scope import RunScope
from portway.server.runs.attempts import check_fence
from portway.server.storage.store import Storage, delete_object, put_object
from portway.server.storage.types import INLINE_LIMIT, Area, StorageSpace
from portway.server.storage_engine.blobs import Blobs
from portway.server.storage_engine.transaction import Transaction
from portway.server.storage_engine.writer import Writer
from portway.v1 import run_pull_pb2 as pb

PIECE_BYTES = 256 * 1024
MAX_OBJECT_BYTES = 64 * 1024 * 1024
MAX_PAGE = 100

Holder = RunScope | ComponentScope

_AREAS = {
    pb.STORAGE_AREA_PLUGIN: (Area.PLUGIN, "storage_plugin"),
    pb.STORAGE_AREA_WORKSPACE: (Area.WORKSPACE, "storage_workspace"),
    pb.STORAGE_AREA_BINDING: (Area.BINDING, "storage_binding"),
}


class StorageCalls:
    """GetStorage, SetStorage, DeleteStorage, ListStorage."""

    def __init__(self, writer: Writer, storage: Storage, blobs: Blobs) -> None:
        self._writer = writer
        self._storage = storage
        self._blobs = blobs

    async def get_storage(self, run: Holder, request: pb.GetStorageRequest, emit: Emit) -> None:
        space = _space(run, request.key.area, "GetStorage")
        found = await self._storage.object(space, request.key.key)
        if found.value or not found.size:
            await self._send(found.value, emit)
            return
        offset = 0
        while offset < found.size:
            length = min(PIECE_BYTES, found.size - offset)
            piece = await self._blobs.read(run.workspace_id, found.sha256, offset, length)
            size = found.size if not offset else 0
            offset += len(piece)
            await emit(pb.GetStorageResponse(data=piece, size=size), offset >= found.size)

    async def set_storage(self, run: Holder, requests: AsyncIterator[pb.SetStorageRequest]) -> pb.SetStorageResponse:
        run.check_alive()
        key: pb.StorageKey | None = None
        async with self._blobs.upload(run.workspace_id, MAX_OBJECT_BYTES, run.run_id) as upload:
            small = bytearray()
            async for request in requests:
                if key is None:
                    key = request.key
                    space = _space(run, key.area, "SetStorage")
                if len(small) <= INLINE_LIMIT:
                    small += request.data
                await upload.write(request.data)
            if key is None or not key.key or len(key.key) > 512:
                raise InvalidInput.field("key", "the first frame names area and key, 1 to 512 characters")
            inline = len(small) <= INLINE_LIMIT
            if not inline:
                blob = await upload.finish()
        size = len(small) if inline else blob.size
        await _pay(run, size)
        name, value, sha256 = key.key, bytes(small) if inline else b"", "" if inline else blob.sha256

        def unit(tx: Transaction) -> None:
            _guard(run, tx)
            put_object(tx, space, name, size=size, value=value, sha256=sha256)

        await self._writer.run(unit)
        return pb.SetStorageResponse(size=size)

    async def delete_storage(self, run: Holder, request: pb.DeleteStorageRequest) -> pb.DeleteStorageResponse:
        space = _space(run, request.key.area, "DeleteStorage")

        def unit(tx: Transaction) -> None:
            _guard(run, tx)
            delete_object(tx, space, request.key.key)

        await self._writer.run(unit)
        return pb.DeleteStorageResponse()

    async def list_storage(self, run: Holder, request: pb.ListStorageRequest) -> pb.ListStorageResponse:
        space = _space(run, request.area, "ListStorage")
        limit = request.limit or MAX_PAGE
        found = await self._storage.page(space, request.prefix, request.after_key, limit + 1)
        response = pb.ListStorageResponse(has_more=len(found) > limit)
        for one in found[:limit]:
            entry = response.entries.add(key=one.key, size=one.size)
            entry.update_time.FromMicroseconds(one.update_time)
        return response

    async def _send(self, value: bytes, emit: Emit) -> None:
        await emit(pb.GetStorageResponse(data=value, size=len(value)), True)


def _space(run: Holder, number: int, action: str) -> StorageSpace:
    if isinstance(run, ComponentScope):
        return run.space(number, action)
    found = _AREAS.get(number)  # type: ignore[call-overload]  # any number may arrive
    if found is None:
        raise InvalidInput.field("area", "names whose bytes they are: plugin, workspace or binding")
    area, permission = found
    run.allow(permission, action)
    owners = {Area.PLUGIN: run.snapshot.runner.plugin_id, Area.BINDING: run.snapshot.agent_id, Area.WORKSPACE: ""}
    return StorageSpace(run.workspace_id, area, owners[area])


def _guard(run: Holder, tx: Transaction) -> None:
    if isinstance(run, ComponentScope):
        run.guard(tx)
    else:
        check_fence(tx, run.fence)


async def _pay(run: Holder, size: int) -> None:
    await (run.pay(size) if isinstance(run, ComponentScope) else pay_bytes(run, size))
