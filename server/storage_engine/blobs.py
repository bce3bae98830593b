"""Bytes by their digest, a folder per workspace.

A blob has its name only when all of it is on disk, so none is ever torn.
"""

import asyncio
import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote

from portway.rpc.errors import DataLoss, InvalidInput, LimitExceeded, NotFound, OutOfRange, PayloadTooLarge, Reason
from portway.server.storage_engine.clock import now
from portway.server.storage_engine.location import sync_folder
from portway.server.storage_engine.pins import unpinned

RANGE_LIMIT = 10 * 1024 * 1024
# A blob that nothing refers to yet may be about to be: it is kept this long after it was last put.
UNREFERENCED_SECONDS = 3_600.0
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ENOSPC = (28, 122)
_WORKSPACE = "w-"


@dataclass(frozen=True, slots=True)
class Blob:
    """`sha256` in hex."""

    sha256: str
    size: int


class BlobWriter:
    """An upload: pieces in order, then `finish`. Left without it, nothing remains. One user at a time."""

    def __init__(self, blobs: "Blobs", workspace_id: str, limit: int, owner_id: str) -> None:
        self._blobs = blobs
        self.workspace_id = workspace_id
        self.owner_id = owner_id
        self.begin_time = now()
        self._limit = limit
        self._digest = hashlib.sha256()
        self._file: BinaryIO | None = None
        # Work in threads outlives the cancelling of who waits for it.
        self._alone = threading.Lock()
        self._over = False
        self._path = blobs.temporary()
        self.size = 0

    @property
    def name(self) -> str:
        """Unique among the uploads of this host."""
        return self._path.name

    async def __aenter__(self) -> "BlobWriter":
        try:
            await asyncio.to_thread(self._open)
        except asyncio.CancelledError:
            # The thread goes on all the same, and nobody would leave the block.
            self._discard()
            raise
        self._blobs.under_way.add(self)
        return self

    async def write(self, piece: bytes) -> None:
        """Raises PayloadTooLarge above the limit; LimitExceeded when the disk is full."""
        self.size += len(piece)
        if self.size > self._limit:
            raise PayloadTooLarge(f"The file is larger than the {self._limit} bytes that are allowed.")
        await asyncio.to_thread(self._write, piece)

    async def finish(self) -> Blob:
        """The blob, on disk under its digest."""
        return await asyncio.to_thread(self._finish)

    async def __aexit__(self, *_: object) -> None:
        try:
            await asyncio.to_thread(self._discard)
        except asyncio.CancelledError:
            # Again: what waits for a thread is then dropped before it begins.
            self._discard()
            raise
        finally:
            self._blobs.under_way.discard(self)

    def _open(self) -> None:
        with self._alone:
            if not self._over:
                self._file = self._path.open("xb")

    def _write(self, piece: bytes) -> None:
        with self._alone:
            if self._over:
                # Who wrote was cancelled and has left.
                return
            self._digest.update(piece)
            try:
                self._opened().write(piece)
            except OSError as error:
                raise _disk(error) from error

    def _finish(self) -> Blob:
        with self._alone:
            file = self._opened()
            try:
                file.flush()
                os.fsync(file.fileno())
            except OSError as error:
                raise _disk(error) from error
        blob = Blob(self._digest.hexdigest(), self.size)
        self._blobs.keep(self.workspace_id, blob.sha256, self._path)
        return blob

    def _discard(self) -> None:
        with self._alone:
            self._over = True
            if self._file is not None:
                # What was not flushed is not wanted; a full disk may refuse it.
                with suppress(OSError):
                    self._file.close()
            self._path.unlink(missing_ok=True)

    def _opened(self) -> BinaryIO:
        if self._file is None or self._over:
            raise AssertionError("used outside of its `async with`")
        return self._file


class Blobs:
    """The blob store of one host."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._uploads = folder / "uploads"
        self.under_way: set[BlobWriter] = set()
        """Uploads that have begun and not ended."""
        self._lock = threading.Lock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._uploads.mkdir(mode=0o700, exist_ok=True)
        # Uploads that a crash left behind. The folder lock makes sure that nobody is writing them.
        for left_over in self._uploads.iterdir():
            left_over.unlink()

    def upload(self, workspace_id: str, limit: int, owner_id: str = "") -> BlobWriter:
        """`async with blobs.upload(…) as writer`: at most `limit` bytes, for a run or ('') for the workspace."""
        return BlobWriter(self, workspace_id, limit, owner_id)

    async def put(self, workspace_id: str, content: bytes) -> Blob:
        """Keep bytes that are in memory."""
        async with self.upload(workspace_id, len(content)) as writer:
            await writer.write(content)
            return await writer.finish()

    async def read(self, workspace_id: str, sha256: str, offset: int, length: int) -> bytes:
        """At most `length` bytes (and RANGE_LIMIT) from `offset`.

        Raises DataLoss without the blob; OutOfRange past its end.
        """
        return await asyncio.to_thread(self._read, workspace_id, sha256, offset, length)

    async def stream(
        self, workspace_id: str, sha256: str, offset: int, length: int, piece: int = 1024 * 1024
    ) -> AsyncIterator[bytes]:
        """The range in pieces."""
        end = offset + length
        while offset < end:
            content = await self.read(workspace_id, sha256, offset, min(piece, end - offset))
            if not content:
                return
            yield content
            offset += len(content)

    async def size(self, workspace_id: str, sha256: str) -> int:
        """Raises NotFound."""
        try:
            return (await asyncio.to_thread(self._path(workspace_id, sha256).stat)).st_size
        except FileNotFoundError:
            raise NotFound.of("blob", sha256) from None

    async def remove(self, workspace_id: str, sha256: str, older_than: float = UNREFERENCED_SECONDS) -> bool:
        """Delete a blob that nothing refers to; false when it was put again lately, so somebody may be about to, and
        while a backup holds every blob in place."""
        return await asyncio.to_thread(self._remove, workspace_id, sha256, older_than)

    def remove_workspace(self, workspace_id: str) -> None:
        """Every blob of a workspace. Called off the event loop."""
        shutil.rmtree(self._folder / f"{_WORKSPACE}{quote(workspace_id, safe='')}", ignore_errors=True)

    async def old(self, older_than: float = UNREFERENCED_SECONDS) -> AsyncIterator[tuple[str, str]]:
        """(workspace_id, digest) of blobs that were last put so many seconds ago; a folder is read at a time."""
        for workspace in await asyncio.to_thread(_folders, self._folder):
            if not workspace.name.startswith(_WORKSPACE):
                continue
            for shard in await asyncio.to_thread(_folders, workspace):
                for sha256 in await asyncio.to_thread(_old_files, shard, time.time() - older_than):
                    yield unquote(workspace.name.removeprefix(_WORKSPACE)), sha256

    def temporary(self) -> Path:
        """A name for an upload."""
        return self._uploads / os.urandom(16).hex()

    def keep(self, workspace_id: str, sha256: str, upload: Path) -> None:
        """Give an upload that is on disk its name."""
        path = self._path(workspace_id, sha256)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._lock:
                if path.exists():
                    os.utime(path)
                    return
                upload.rename(path)
            for folder in (path.parent, path.parent.parent, self._folder):
                sync_folder(folder)
        except OSError as error:
            raise _disk(error) from error

    def _read(self, workspace_id: str, sha256: str, offset: int, length: int) -> bytes:
        try:
            with self._path(workspace_id, sha256).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if not 0 <= offset <= size:
                    raise OutOfRange(f"Offset {offset} is outside of the {size} bytes.")
                file.seek(offset)
                return file.read(max(0, min(length, RANGE_LIMIT)))
        except FileNotFoundError:
            raise DataLoss("The bytes of this file are not on disk any more.") from None

    def _remove(self, workspace_id: str, sha256: str, older_than: float) -> bool:
        path = self._path(workspace_id, sha256)
        with self._lock, unpinned(self._folder) as free:
            if not free:
                return False
            try:
                if time.time() - path.stat().st_mtime < older_than:
                    return False
                path.unlink()
            except FileNotFoundError:
                return False
        return True

    def _path(self, workspace_id: str, sha256: str) -> Path:
        return self._folder / blob_place(workspace_id, sha256)


def blob_place(workspace_id: str, sha256: str) -> str:
    """Where a blob lies below the folder of blobs. Raises InvalidInput."""
    if not _DIGEST.fullmatch(sha256):
        raise InvalidInput("A blob is named by its SHA-256 in lower-case hex.")
    # Quoted, so that no workspace id can name another folder.
    return f"{_WORKSPACE}{quote(workspace_id, safe='')}/{sha256[:2]}/{sha256}"


def _folders(parent: Path) -> list[Path]:
    return sorted(entry for entry in parent.iterdir() if entry.is_dir())


def _old_files(folder: Path, before: float) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if entry.is_file() and entry.stat().st_mtime < before]


def _disk(error: OSError) -> Exception:
    if error.errno in _ENOSPC:
        return LimitExceeded(
            "The disk that holds Portway's data is full; the file was not kept. Free space there and try again.",
            reason=Reason.DISK_FULL,
            retry_after=5.0,
        )
    return error
