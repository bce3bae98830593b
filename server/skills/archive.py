"""Skills in a zip: found, checked and unpacked into memory file by file, with a bound on everything."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from portway.rpc.archive.paths import checked_path
from portway.rpc.archive.zip_read import StrictZip, ZipFileEntry, ZipLimits
from portway.rpc.errors import InvalidInput, PayloadTooLarge
from portway.server.skills.types import MAX_FILE_BYTES, MAX_FILES, MAX_SKILL_BYTES, SKILL_FILE

MAX_ZIP_BYTES = 32 * 1024 * 1024
MAX_ENTRIES = 5_000
MAX_SKILLS_IN_ZIP = 50
_FIELD = "data"
_LIMITS = ZipLimits(MAX_ENTRIES, 64 * 1024 * 1024, MAX_FILE_BYTES, _FIELD, "skill")


@dataclass(frozen=True, slots=True)
class Packed:
    """One file in the zip: its path within the skill, and its entry."""

    path: str
    entry: ZipFileEntry
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
        self._zip = StrictZip(file, _LIMITS)
        self.skills = tuple(_skills({one.path: one for one in self._zip.files}, source_folder))

    def read(self, packed: Packed) -> bytes:
        """The bytes of a file, at most MAX_FILE_BYTES whatever the zip says of itself."""
        return self._zip.read(packed.entry)


def _skills(entries: dict[str, ZipFileEntry], source_folder: str) -> Iterator[PackedSkill]:
    folders = _folders(entries, source_folder)
    for folder in folders:
        prefix = f"{folder}/" if folder else ""
        files = [
            Packed(path.removeprefix(prefix), entry, entry.executable)
            for path, entry in entries.items()
            if path.startswith(prefix)
        ]
        if len(files) > MAX_FILES:
            raise PayloadTooLarge(
                f"The skill in {folder or 'the zip'!r} has {len(files)} files; {MAX_FILES} are allowed."
            )
        if sum(file.entry.size for file in files) > MAX_SKILL_BYTES:
            raise PayloadTooLarge(
                f"The skill in {folder or 'the zip'!r} is larger than {MAX_SKILL_BYTES // 1024 // 1024} MiB."
            )
        yield PackedSkill(folder, tuple(files))


def _folders(entries: dict[str, ZipFileEntry], source_folder: str) -> Sequence[str]:
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
