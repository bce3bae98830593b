"""A zip of a stranger: looked through before anything of it is unpacked, and unpacked with a bound on everything."""

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from portway.rpc.archive.paths import check_no_clash, checked_path
from portway.rpc.errors import InvalidInput, PayloadTooLarge

_PIECE = 256 * 1024
_CLEARLY_MUCH = 1024 * 1024
_MOST_RATIO = 500
_MAX_DIRECTORY_ENTRY_BYTES = 430
_LOCAL_HEADER_BYTES = 30
_END = struct.Struct("<4s4H2LH")
_END_MARK, _ZIP64_MARK = b"PK\5\6", b"PK\6\7"
_LOCATOR_BYTES = 20
_LONGEST_END = 65_536 + 22
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What desktop systems put into every archive.
_LITTER = ("__MACOSX/", ".DS_Store", "Thumbs.db")


@dataclass(frozen=True, slots=True)
class ZipLimits:
    """What a zip may hold, and how people are told: `field` is the field of a request that it came in, `owner` what its
    files belong to, such as `skill`."""

    entries: int
    unpacked_bytes: int
    file_bytes: int
    field: str
    owner: str
    deepest: int = 16


@dataclass(frozen=True, slots=True)
class ZipFileEntry:
    """One file: its path in its one spelling, what the zip says of its size, and whether it may be executed."""

    path: str
    size: int
    executable: bool
    info: zipfile.ZipInfo


class StrictZip:
    """A zip that was looked through: nothing of it was unpacked yet. Use it on a thread: reading takes time."""

    def __init__(self, file: BinaryIO, limits: ZipLimits) -> None:
        """Raises InvalidInput (no zip, paths, links, devices, encryption), PayloadTooLarge (a bomb)."""
        self._limits = limits
        self._left = limits.unpacked_bytes
        self._check_directory(file)
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError, struct.error) as error:
            raise self.wrong("it is not a zip archive") from error
        self.files: Sequence[ZipFileEntry] = tuple(self._files())
        check_no_clash((one.path for one in self.files), limits.field, owner=limits.owner)

    def wrong(self, description: str) -> InvalidInput:
        return InvalidInput.field(self._limits.field, f"The zip cannot be used: {description}.")

    def read(self, entry: ZipFileEntry) -> bytes:
        """The bytes of a file, in one piece."""
        return b"".join(self.pieces(entry))

    def pieces(self, entry: ZipFileEntry) -> Iterator[bytes]:
        """The bytes of a file, no more than the limits whatever the zip says of itself. Raises as the constructor."""
        size = 0
        try:
            with self._zip.open(entry.info) as file:
                while piece := file.read(_PIECE):
                    size += len(piece)
                    self._left -= len(piece)
                    self._check_bytes(entry, size)
                    yield piece
        except (
            zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError,
            struct.error,
        ) as error:  # fmt: skip
            raise self.wrong(f"{entry.path!r} in it cannot be unpacked") from error

    def _check_bytes(self, entry: ZipFileEntry, size: int) -> None:
        if size > self._limits.file_bytes:
            most = self._limits.file_bytes // 1024 // 1024
            raise PayloadTooLarge(f"{entry.path!r} in the zip is larger than {most} MiB.")
        if self._left < 0:
            raise self._too_large()

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"The zip unpacks to more than {self._limits.unpacked_bytes // 1024 // 1024} MiB.")

    def _too_many(self, entries: int) -> PayloadTooLarge:
        return PayloadTooLarge(f"The zip has {entries} entries; {self._limits.entries} are allowed.")

    def _check_directory(self, file: BinaryIO) -> None:
        """Looks at the end of the zip before its directory is read: that takes memory for every entry it claims."""
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - _LONGEST_END))
        tail = file.read()
        at = len(tail) - _END.size if tail[-_END.size :].startswith(_END_MARK) else tail.rfind(_END_MARK)
        if at < 0 or len(tail) - at < _END.size:
            raise self.wrong("it is not a zip archive")
        _mark, disk, first_disk, _here, entries, directory, offset, _comment = _END.unpack_from(tail, at)
        if tail[max(0, at - _LOCATOR_BYTES) : at].startswith(_ZIP64_MARK) or 0xFFFFFFFF in (directory, offset):
            raise self.wrong("it is a zip64 archive, which nothing of this size needs to be")
        if disk or first_disk:
            raise self.wrong("it is one part of several")
        if entries > self._limits.entries or directory > _MAX_DIRECTORY_ENTRY_BYTES * self._limits.entries:
            raise self._too_many(entries)

    def _check_room(self, infos: Sequence[zipfile.ZipInfo], end: int) -> None:
        """No byte of the zip belongs to two entries: a small file could else be unpacked a thousand times over."""
        taken = 0
        for info in sorted(infos, key=lambda one: one.header_offset):
            begin = info.header_offset
            after = begin + _LOCAL_HEADER_BYTES + info.compress_size
            if begin < taken or after > end:
                raise self.wrong(f"{info.filename[:120]!r} in it lies over another entry, or outside of it")
            taken = after
            if info.file_size > _CLEARLY_MUCH and info.file_size > _MOST_RATIO * info.compress_size:
                raise PayloadTooLarge(
                    f"{info.filename[:120]!r} in the zip unpacks to {_MOST_RATIO} times its size or more."
                )

    def _files(self) -> Iterator[ZipFileEntry]:
        infos = self._zip.infolist()
        if len(infos) > self._limits.entries:
            raise self._too_many(len(infos))
        if sum(info.file_size for info in infos) > self._limits.unpacked_bytes:
            raise self._too_large()
        self._check_room(infos, self._zip.start_dir)
        for info in infos:
            path = self._path_of(info)
            if info.is_dir() or _is_litter(path):
                continue
            if info.flag_bits & 0x1:
                raise self.wrong(f"{path!r} in it is encrypted")
            if info.compress_type not in _METHODS:
                raise self.wrong(f"{path!r} in it is packed by a method that is not read; use deflate")
            yield ZipFileEntry(path, info.file_size, bool(info.external_attr >> 16 & 0o111), info)

    def _path_of(self, info: zipfile.ZipInfo) -> str:
        if info.orig_filename != info.filename:
            raise self.wrong(f"the name {info.orig_filename[:120]!r} in it holds a zero byte")
        # Also for folders: an absolute one or one with `..` is nothing that a packer makes.
        limits, name = self._limits, info.filename.removesuffix("/")
        path = checked_path(name, limits.field, owner=limits.owner, deepest=limits.deepest)
        mode = info.external_attr >> 16
        if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise self.wrong(f"{path!r} in it is a link or a device, and only files and folders are taken")
        return path


def _is_litter(path: str) -> bool:
    return path.startswith(_LITTER[0]) or PurePosixPath(path).name in _LITTER[1:]
