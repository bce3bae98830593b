"""A file or directory of a session packed as a tar stream, piece by piece, while others may change it."""

import os
import stat
import threading
from collections.abc import Generator
from dataclasses import dataclass

from portway.box.files.places import Place
from portway.box.files.tar_header import BLOCK, ZEROS, Kind, write_header
from portway.box.isolation.syscalls import RESOLVE_NO_SYMLINKS, open_beneath
from portway.rpc.errors import LimitExceeded, WrongState

CHUNK = 256 * 1024
MAX_ENTRIES = 200_000
MAX_DEPTH = 64
MAX_BYTES = 64 * 1024 * 1024 * 1024
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@dataclass(slots=True)
class Packed:
    """What was packed so far."""

    files: int = 0
    bytes: int = 0
    skipped: int = 0
    changed: int = 0


class Packing:
    """A download under way. Its methods may be called on several threads, `close` at any time."""

    def __init__(self, place: Place) -> None:
        self.packed = Packed()
        self._turn = threading.Lock()
        self._waiting = bytearray()
        self._entries = 0
        self._root = open_beneath(place.directory.fd, place.relative, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        info = os.fstat(self._root)
        if stat.S_ISDIR(info.st_mode):
            self._pieces = self._below(self._root, b"", 0)
        elif stat.S_ISREG(info.st_mode):
            self._pieces = self._content(self._root, os.fsencode(place.path.rpartition("/")[2]), info)
        else:
            os.close(self._root)
            raise WrongState(f"{place.path} is neither a file nor a directory")
        self._ended = False

    def next(self) -> bytes:
        """The next bytes of the archive, at most CHUNK; empty at its end."""
        with self._turn:
            while len(self._waiting) < CHUNK and not self._ended:
                piece = next(self._pieces, None)
                self._ended = piece is None
                self._waiting += ZEROS * 2 if piece is None else piece
            data = bytes(self._waiting[:CHUNK])
            del self._waiting[:CHUNK]
            return data

    def close(self) -> None:
        with self._turn:
            self._ended = True
            # Ends the walk where it is, and with it closes what it has open.
            self._pieces.close()
            if self._root >= 0:
                os.close(self._root)
                self._root = -1

    def _below(self, directory: int, prefix: bytes, depth: int) -> "Pieces":
        if depth > MAX_DEPTH:
            raise LimitExceeded(f"the directories are nested deeper than {MAX_DEPTH}; pack them with a command")
        # Read entry by entry: a directory may have very many.
        with os.scandir(directory) as entries:
            for found in entries:
                self._entries += 1
                if self._entries > MAX_ENTRIES:
                    raise LimitExceeded(f"there are more than {MAX_ENTRIES} entries; pack a part of them")
                name = os.fsencode(found.name)
                try:
                    info = os.stat(found.name, dir_fd=directory, follow_symlinks=False)
                    yield from self._entry(directory, found.name, prefix + name, info, depth)
                except OSError:
                    # Gone, swapped for something else, another mount, or not for the session's user.
                    self.packed.skipped += 1

    def _entry(self, parent: int, name: str, path: bytes, info: os.stat_result, depth: int) -> "Pieces":
        seconds = int(info.st_mtime)
        if stat.S_ISLNK(info.st_mode):
            target = os.fsencode(os.readlink(name, dir_fd=parent))
            yield write_header(Kind.LINK, path, mode=0o777, seconds=seconds, target=target)
        elif stat.S_ISDIR(info.st_mode):
            inner = open_beneath(parent, name, _DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)
            try:
                yield write_header(Kind.DIRECTORY, path + b"/", mode=info.st_mode & 0o777, seconds=seconds)
                yield from self._below(inner, path + b"/", depth + 1)
            finally:
                os.close(inner)
        elif stat.S_ISREG(info.st_mode):
            file = open_beneath(parent, name, _FILE, resolve=RESOLVE_NO_SYMLINKS)
            try:
                opened = os.fstat(file)
                if stat.S_ISREG(opened.st_mode):
                    yield from self._content(file, path, opened)
                else:
                    self.packed.skipped += 1
            finally:
                os.close(file)
        else:
            self.packed.skipped += 1

    def _content(self, file: int, path: bytes, info: os.stat_result) -> "Pieces":
        """As many bytes as the header says, whatever becomes of the file meanwhile."""
        self.packed.bytes += info.st_size
        if self.packed.bytes > MAX_BYTES:
            raise LimitExceeded(f"the files have more than {MAX_BYTES} bytes together; pack a part of them")
        self.packed.files += 1
        seconds = int(info.st_mtime)
        yield write_header(Kind.FILE, path, size=info.st_size, mode=info.st_mode & 0o777, seconds=seconds)
        left, cut = info.st_size, False
        while left:
            data = b"" if cut else _read(file, min(left, CHUNK))
            if not data:
                cut, data = True, bytes(min(left, CHUNK))
            left -= len(data)
            yield data
        yield bytes(-info.st_size % BLOCK)
        after = os.fstat(file)
        if cut or (after.st_size, after.st_mtime_ns) != (info.st_size, info.st_mtime_ns):
            self.packed.changed += 1


def _read(file: int, size: int) -> bytes:
    try:
        return os.read(file, size)
    except OSError:  # a disk that fails: the entry has begun, so it is filled up and counted as changed
        return b""


Pieces = Generator[bytes, None, None]
