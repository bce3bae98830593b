"""Files as they are told."""

import os
import stat
from dataclasses import dataclass
from enum import StrEnum


class FileType(StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A path inside a session. Bytes, permission bits, nanoseconds since the epoch."""

    path: str
    type: FileType
    size: int
    mode: int
    modify_time_ns: int

    @classmethod
    def of(cls, path: str, info: os.stat_result) -> "FileInfo":
        return cls(path, type_of(info.st_mode), info.st_size, stat.S_IMODE(info.st_mode), info.st_mtime_ns)


def type_of(mode: int) -> FileType:
    if stat.S_ISREG(mode):
        return FileType.FILE
    if stat.S_ISDIR(mode):
        return FileType.DIRECTORY
    return FileType.LINK if stat.S_ISLNK(mode) else FileType.OTHER


def shown(path: str) -> str:
    """Names are bytes to the kernel; what is no UTF-8 is replaced, as in every text view."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class LineMatch:
    path: str
    line_number: int
    line: str
