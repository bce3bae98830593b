"""Dropping what nobody keeps: artifacts whose time is over, and bytes that nothing refers to."""

import asyncio

import structlog

from portway.rpc.errors import PortwayError
from portway.server.artifacts.store import Artifacts, remove_expired
from portway.server.storage_engine.blobs import Blobs
from portway.server.storage_engine.writer import Writer

REAP_EVERY = 60.0
SWEEP_EVERY = 86_400.0
_AT_ONCE = 200


class Reaper:
    """Expired artifacts go every minute. Their bytes go with them; or, where they were put lately and somebody may be
    about to refer to them, with the sweep that looks at every file, at the start and once a day."""

    def __init__(self, writer: Writer, artifacts: Artifacts, blobs: Blobs) -> None:
        self._writer = writer
        self._artifacts = artifacts
        self._blobs = blobs
        self._log = structlog.get_logger("portway.server.artifacts")

    async def run(self) -> None:
        """Until it is cancelled."""
        swept_at = float("-inf")
        clock = asyncio.get_running_loop().time
        while True:
            try:
                await self.reap()
                if clock() - swept_at > SWEEP_EVERY:
                    await self.sweep()
                    swept_at = clock()
            except PortwayError as error:
                self._log.warning("expired artifacts could not be dropped; they will be later", error=str(error))
            await asyncio.sleep(REAP_EVERY)

    async def reap(self) -> int:
        """Drop what has expired; answers how many artifacts."""
        total = 0
        while dropped := await self._writer.run(lambda tx: remove_expired(tx, _AT_ONCE)):
            for workspace_id, sha256 in dropped:
                await self._drop_unused(workspace_id, sha256)
            total += len(dropped)
        return total

    async def sweep(self) -> int:
        """Drop the bytes that nothing refers to; answers how many files."""
        total = 0
        async for workspace_id, sha256 in self._blobs.old():
            total += await self._drop_unused(workspace_id, sha256)
        if total:
            self._log.info("files that nothing referred to were dropped", count=total)
        return total

    async def _drop_unused(self, workspace_id: str, sha256: str) -> bool:
        if await self._artifacts.blob_in_use(workspace_id, sha256):
            return False
        return await self._blobs.remove(workspace_id, sha256)
