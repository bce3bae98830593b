"""Skills in a zip: found, checked and unpacked into memory file by file, with a bound on everything."""

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from portway.rpc.errors import InvalidInput, PayloadTooLarge
from portway.server.skills.paths import check_no_clash, checked_path
from portway.server.skills.types import MAX_FILE_BYTES, MAX_FILES, MAX_SKILL_BYTES, SKILL_FILE

MAX_ZIP_BYTES = 32 * 1024 * 1024
MAX_ENTRIES = 5_000
MAX_SKILLS_IN_ZIP = 50
_UNPACKED_BYTES = 64 * 1024 * 1024
_FIELD = "data"
_PIECE = 256 * 1024
_CLEARLY_MUCH = 1024 * 1024
_MOST_RATIO = 500
_MAX_DIRECTORY_BYTES = 2 * 1024 * 1024
_LOCAL_HEADER_BYTES = 30
_END = struct.Struct("<4s4H2LH")
_END_MARK, _ZIP64_MARK = b"PK\5\6", b"PK\6\7"
_LOCATOR_BYTES = 20
_LONGEST_END = 65_536 + 22
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What desktop systems put into every archive.
_LITTER = ("__MACOSX/", ".DS_Store", "Thumbs.db")


@dataclass(frozen=True, slots=True)
class Packed:
    """One file in the zip: its path within the skill, and its entry."""

    path: str
    entry: zipfile.ZipInfo
    executable: bool


@dataclass(frozen=True, slots=True)
class PackedSkill:
    """A folder of the zip that has a `SKILL.md`. `folder` is '' for the zip's own root."""

    folder: str
    files: tuple[Packed, ...]


class SkillArchive:
    """A zip that was looked through: nothing of it was unpacked yet. Use it on a thread: reading takes time."""

    def __init__(self, file: BinaryIO, source_folder: str = "") -> None:
        """Raises InvalidInput (no zip, paths, links, no skill), PayloadTooLarge (a bomb)."""
        _check_directory(file)
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError, struct.error) as error:
            raise _wrong("it is not a zip archive") from error
        self._left = _UNPACKED_BYTES
        entries = dict(_entries(self._zip))
        self.skills = tuple(_skills(entries, source_folder))

    def read(self, packed: Packed) -> bytes:
        """The bytes of a file, at most MAX_FILE_BYTES whatever the zip says of itself."""
        try:
            with self._zip.open(packed.entry) as file:
                content = _bounded(file, packed.path)
        except (
            zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError,
            struct.error,
        ) as error:  # fmt: skip
            raise _wrong(f"{packed.path!r} in it cannot be unpacked") from error
        self._left -= len(content)
        if self._left < 0:
            raise PayloadTooLarge(f"The zip unpacks to more than {_UNPACKED_BYTES // 1024 // 1024} MiB.")
        return content


def _bounded(file: object, path: str) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := file.read(_PIECE):  # type: ignore[attr-defined]
        size += len(piece)
        if size > MAX_FILE_BYTES:
            raise PayloadTooLarge(f"{path!r} in the zip is larger than {MAX_FILE_BYTES // 1024 // 1024} MiB.")
        pieces.append(piece)
    return b"".join(pieces)


def _check_directory(file: BinaryIO) -> None:
    """Looks at the end of the zip before its directory is read: that takes memory for every entry it claims."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _LONGEST_END))
    tail = file.read()
    at = len(tail) - _END.size if tail[-_END.size :].startswith(_END_MARK) else tail.rfind(_END_MARK)
    if at < 0 or len(tail) - at < _END.size:
        raise _wrong("it is not a zip archive")
    _mark, disk, first_disk, _here, entries, directory, offset, _comment = _END.unpack_from(tail, at)
    if tail[max(0, at - _LOCATOR_BYTES) : at].startswith(_ZIP64_MARK) or 0xFFFFFFFF in (directory, offset):
        raise _wrong("it is a zip64 archive, which nothing of this size needs to be")
    if disk or first_disk:
        raise _wrong("it is one part of several")
    if entries > MAX_ENTRIES or directory > _MAX_DIRECTORY_BYTES:
        raise PayloadTooLarge(f"The zip has {entries} entries; {MAX_ENTRIES} are allowed.")


def _check_room(infos: Sequence[zipfile.ZipInfo], end: int) -> None:
    """No byte of the zip belongs to two entries: a small file could else be unpacked a thousand times over."""
    taken = 0
    for info in sorted(infos, key=lambda one: one.header_offset):
        begin = info.header_offset
        after = begin + _LOCAL_HEADER_BYTES + info.compress_size
        if begin < taken or after > end:
            raise _wrong(f"{info.filename[:120]!r} in it lies over another entry, or outside of it")
        taken = after
        if info.file_size > _CLEARLY_MUCH and info.file_size > _MOST_RATIO * info.compress_size:
            raise PayloadTooLarge(
                f"{info.filename[:120]!r} in the zip unpacks to {_MOST_RATIO} times its size or more."
            )


def _entries(archive: zipfile.ZipFile) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    infos = archive.infolist()
    if len(infos) > MAX_ENTRIES:
        raise PayloadTooLarge(f"The zip has {len(infos)} entries; {MAX_ENTRIES} are allowed.")
    if sum(info.file_size for info in infos) > _UNPACKED_BYTES:
        raise PayloadTooLarge(f"The zip unpacks to more than {_UNPACKED_BYTES // 1024 // 1024} MiB.")
    _check_room(infos, archive.start_dir)
    found: list[str] = []
    for info in infos:
        if info.orig_filename != info.filename:
            raise _wrong(f"the name {info.orig_filename[:120]!r} in it holds a zero byte")
        mode = info.external_attr >> 16
        # Also for folders: an absolute one or one with `..` is nothing that a packer makes.
        path = checked_path(info.filename.removesuffix("/"), _FIELD)
        if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _wrong(f"{path!r} in it is a link or a device, and only files and folders are taken")
        if info.is_dir() or _is_litter(path):
            continue
        if info.flag_bits & 0x1:
            raise _wrong(f"{path!r} in it is encrypted")
        if info.compress_type not in _METHODS:
            raise _wrong(f"{path!r} in it is packed by a method that is not read; use deflate")
        found.append(path)
        yield path, info
    check_no_clash(found, _FIELD)


def _is_litter(path: str) -> bool:
    return path.startswith(_LITTER[0]) or PurePosixPath(path).name in _LITTER[1:]


def _skills(entries: dict[str, zipfile.ZipInfo], source_folder: str) -> Iterator[PackedSkill]:
    folders = _folders(entries, source_folder)
    for folder in folders:
        prefix = f"{folder}/" if folder else ""
        files = [
            Packed(path.removeprefix(prefix), entry, bool(entry.external_attr >> 16 & 0o111))
            for path, entry in entries.items()
            if path.startswith(prefix)
        ]
        if len(files) > MAX_FILES:
            raise PayloadTooLarge(
                f"The skill in {folder or 'the zip'!r} has {len(files)} files; {MAX_FILES} are allowed."
            )
        if sum(file.entry.file_size for file in files) > MAX_SKILL_BYTES:
            raise PayloadTooLarge(
                f"The skill in {folder or 'the zip'!r} is larger than {MAX_SKILL_BYTES // 1024 // 1024} MiB."
            )
        yield PackedSkill(folder, tuple(files))


def _folders(entries: dict[str, zipfile.ZipInfo], source_folder: str) -> Sequence[str]:
    """Folders that are skills. A skill inside of another one is part of it."""
    all_folders = sorted(
        str(parent) if (parent := PurePosixPath(path).parent) != PurePosixPath() else ""
        for path in entries
        if PurePosixPath(path).name == SKILL_FILE
    )
    if source_folder:
        wanted = checked_path(source_folder.removesuffix("/"), "source_folder")
        all_folders = [one for one in all_folders if one == wanted or one.startswith(f"{wanted}/")]
    top: list[str] = []
    for folder in all_folders:
        if not any(one in ("", folder) or folder.startswith(f"{one}/") for one in top):
            top.append(folder)
    if not top:
        place = f"below {source_folder!r}" if source_folder else "in any of its folders"
        raise _wrong(f"there is no {SKILL_FILE} {place}")
    if len(top) > MAX_SKILLS_IN_ZIP:
        raise PayloadTooLarge(f"The zip holds {len(top)} skills; {MAX_SKILLS_IN_ZIP} are allowed.")
    return top


def _wrong(description: str) -> InvalidInput:
    return InvalidInput.field(_FIELD, f"The zip cannot be used: {description}.")
