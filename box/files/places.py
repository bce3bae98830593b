"""Which mount of a session a path is in. Text only chooses the mount; where the rest leads is for the kernel to say."""

import os
import posixpath
from dataclasses import dataclass

from portway.box.backends.types import FileAccess, FileMount
from portway.box.files.types import shown
from portway.rpc.errors import InvalidInput, NotPermitted


class OwnDirectory:
    """A descriptor of a mount that lasts as long as its holder, also where the session is deleted meanwhile: a number
    that was given back could stand for another session's directory the next moment."""

    __slots__ = ("fd",)

    def __init__(self, mount: FileMount) -> None:
        self.fd = mount.open()

    def __del__(self) -> None:
        os.close(self.fd)


@dataclass(frozen=True, slots=True)
class Place:
    """A path in a mount. `relative` is resolved beneath `directory`; `path` is how it is told."""

    directory: OwnDirectory
    index: int
    relative: str
    path: str

    @property
    def shown(self) -> str:
        """The path in a message."""
        return shown(self.path)

    @property
    def is_root(self) -> bool:
        return posixpath.normpath(self.relative) == "."


def find_place(access: FileAccess, working_directory: str, path: str, *, writing: bool = False) -> Place:
    """Raises `InvalidInput` for what is no path, `NotPermitted` outside all mounts or to write to a read-only one."""
    if not path or "\0" in path:
        raise InvalidInput.field("file.path", "is empty or holds a zero byte")
    parts = [part for part in posixpath.join(working_directory, path).split("/") if part not in ("", ".")]
    best: tuple[int, int] | None = None
    for index, mount in enumerate(access.mounts):
        target = mount.target.strip("/").split("/")
        if parts[: len(target)] == target and (best is None or len(target) > best[0]):
            best = (len(target), index)
    if best is None:
        places = ", ".join(mount.target for mount in access.mounts)
        raise NotPermitted(f"{shown(path)!r} lies in none of the session's places for files: {places}")
    length, index = best
    mount = access.mounts[index]
    if writing and not mount.writable:
        raise NotPermitted(f"{mount.target} is read-only in this session")
    relative = "/".join(parts[length:]) or "."
    return Place(OwnDirectory(mount), index, relative, posixpath.normpath("/" + "/".join(parts)))
