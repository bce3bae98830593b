"""A zip that arrives in pieces: bounded, hashed as it is written, and compared with what was said of it."""

import hashlib
import shutil
from pathlib import Path
from typing import BinaryIO

from portway.rpc.errors import InvalidInput, PayloadTooLarge
from portway.runtime.installed.disk import check_room, room_told

MAX_ZIP_BYTES = 64 * 1024 * 1024
MAX_PIECE_BYTES = 1024 * 1024


class IncomingZip:
    """Blocking. `folder` is made for it and is gone after `discard`. `size` and `digest` are what was said before; 0
    and empty where nothing was."""

    def __init__(self, folder: Path, size: int = 0, digest: str = "") -> None:
        self.folder = folder
        self.path = folder / "plugin.zip"
        self.size = 0
        self._said_size = size
        self._said_digest = digest
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def open(self, reserve: int) -> None:
        """Raises `LimitExceeded` where the disk has no room for it beside the reserve."""
        check_room(self.folder.parent, 2 * (self._said_size or MAX_ZIP_BYTES), reserve)
        with room_told(self.folder):
            self.folder.mkdir(mode=0o700)
            self._file = self.path.open("xb")

    def add(self, data: bytes, offset: int | None = None) -> None:
        """The next piece; `offset` is where its sender has it begin. Raises `InvalidInput`, `PayloadTooLarge`."""
        assert self._file is not None, "open comes first"
        if len(data) > MAX_PIECE_BYTES:
            raise InvalidInput.field("chunk.data", f"has more than {MAX_PIECE_BYTES} bytes in one frame")
        if offset is not None and offset != self.size:
            raise InvalidInput.field("chunk.offset", f"is {offset}, and {self.size} bytes came before; keep the order")
        self.size += len(data)
        if self.size > MAX_ZIP_BYTES:
            raise PayloadTooLarge(f"the zip is larger than {MAX_ZIP_BYTES // 1024 // 1024} MiB")
        if self._said_size and self.size > self._said_size:
            raise InvalidInput.field("start.size", f"is {self._said_size}, and more bytes came")
        self._hash.update(data)
        with room_told(self.path):
            self._file.write(data)

    def finish(self) -> None:
        """Raises `InvalidInput` where it is not what was said."""
        self._close()
        if self._said_size and self.size != self._said_size:
            raise InvalidInput.field("start.size", f"is {self._said_size}, and {self.size} bytes came; send it again")
        if self._said_digest and self.digest != self._said_digest:
            raise InvalidInput.field("start.digest", f"is not that of the bytes that came, {self.digest}; send again")

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with room_told(self.path):
                file.close()

    def discard(self) -> None:
        try:
            self._close()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
