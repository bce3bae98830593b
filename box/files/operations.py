"""File work of a session, as blocking functions: by descriptors, beneath a mount, as the session's user."""

import contextlib
import hashlib
import heapq
import os
import posixpath
import stat
import threading
from collections.abc import Callable, Iterable, Iterator

from portway.box.files.places import Place
from portway.box.files.types import FileInfo
from portway.box.isolation.syscalls import open_beneath
from portway.rpc.errors import InvalidInput, LimitExceeded, NotPermitted, Stale, WrongState

CHUNK = 256 * 1024
MAX_FRAME_BYTES = 1024 * 1024
MAX_EDIT_BYTES = 8 * 1024 * 1024
MAX_LISTED = 1_000_000
MAX_DEPTH = 256
DEFAULT_MODE = 0o644
_PLAIN = os.O_NONBLOCK | os.O_NOCTTY
_PARENT = os.O_PATH | os.O_DIRECTORY


class OpenFile:
    """An open descriptor that is closed with its holder, also where a cancelled caller never took it."""

    __slots__ = ("fd", "info")

    def __init__(self, fd: int, info: FileInfo) -> None:
        self.fd = fd
        self.info = info

    def read_at(self, offset: int, length: int) -> bytes:
        return os.pread(self.fd, length, offset)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __del__(self) -> None:
        self.close()


def open_file(place: Place) -> OpenFile:
    """A regular file for reading; links beneath the mount are followed."""
    fd = open_beneath(place.directory.fd, place.relative, os.O_RDONLY | _PLAIN)
    info = os.fstat(fd)
    opened = OpenFile(fd, FileInfo.of(place.path, info))
    if not stat.S_ISREG(info.st_mode):
        kind = "a directory" if stat.S_ISDIR(info.st_mode) else "not a regular file"
        raise WrongState(f"{place.shown} is {kind}")
    return opened


def describe(place: Place) -> FileInfo:
    fd = open_beneath(place.directory.fd, place.relative, os.O_PATH | os.O_NOFOLLOW)
    try:
        return FileInfo.of(place.path, os.fstat(fd))
    finally:
        os.close(fd)


def list_directory(place: Place, after: bytes, size: int) -> tuple[list[FileInfo], bytes]:
    """Up to `size` entries by name after `after`, and the name to go on after; empty at the end."""
    fd = open_beneath(place.directory.fd, place.relative, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(fd) as entries:
            # As bytes: not every name is text. Only a page of them is kept, however many there are.
            following = (name for entry in entries if (name := os.fsencode(entry.name)) > after)
            names = heapq.nsmallest(size + 1, _counted(following, place))
        found = []
        for name in names[:size]:
            try:
                info = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:  # gone meanwhile
                continue
            found.append(FileInfo.of(posixpath.join(place.path, os.fsdecode(name)), info))
        return found, names[size - 1] if len(names) > size else b""
    finally:
        os.close(fd)


def _counted(names: Iterable[bytes], place: Place) -> Iterator[bytes]:
    for count, name in enumerate(names):
        if count == MAX_LISTED:
            raise LimitExceeded(f"{place.shown} has more than {MAX_LISTED} entries; list it with a command")
        yield name


def remove(place: Place, *, recursive: bool, stopped: Callable[[], bool]) -> int:
    """How many entries were removed."""
    parent, name = _open_parent(place)
    try:
        info = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if info.st_dev != os.fstat(parent).st_dev:
            # The kernel would take it, and the mount away with it: it is none in the server's own namespace.
            raise NotPermitted(f"{place.shown} is where something is mounted in this session")
        if not stat.S_ISDIR(info.st_mode):
            os.unlink(name, dir_fd=parent)
            return 1
        removed = empty_directory(parent, name, stopped) if recursive else 0
        os.rmdir(name, dir_fd=parent)
        return removed + 1
    finally:
        os.close(parent)


def empty_directory(parent: int, name: str, stopped: Callable[[], bool] = lambda: False, depth: int = 0) -> int:
    """Removes everything in a directory, over no link and into no other mount. Returns how many entries."""
    if depth > MAX_DEPTH:
        raise WrongState("the directories are nested too deeply; remove them with a command")
    removed = 0
    directory = open_beneath(parent, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        device = os.fstat(directory).st_dev
        for child in os.listdir(directory):
            if stopped():
                return removed
            # What is gone meanwhile is what was asked for.
            with contextlib.suppress(FileNotFoundError):
                info = os.stat(child, dir_fd=directory, follow_symlinks=False)
                if info.st_dev != device:
                    raise NotPermitted("something is mounted in there in this session")
                if stat.S_ISDIR(info.st_mode):
                    removed += empty_directory(directory, child, stopped, depth + 1)
                    os.rmdir(child, dir_fd=directory)
                else:
                    os.unlink(child, dir_fd=directory)
                removed += 1
    finally:
        os.close(directory)
    return removed


def _open_parent(place: Place) -> tuple[int, str]:
    """The directory that holds the last part of a path, and that part."""
    if place.is_root:
        raise InvalidInput.field("file.path", "is the root of a mount")
    head, name = posixpath.split(place.relative)
    if name in ("", ".", ".."):
        raise InvalidInput.field("file.path", "does not end in a name")
    return open_beneath(place.directory.fd, head or ".", _PARENT), name


def make_parents(place: Place) -> None:
    """Makes the directories above a path that are missing, one by one, each beneath the one before."""
    parts = posixpath.dirname(place.relative).split("/")
    if ".." in parts:
        raise InvalidInput.field("file.path", "must not hold `..` where directories are to be made")
    made = ""
    for part in parts:
        if part in ("", "."):
            continue
        parent = open_beneath(place.directory.fd, made or ".", _PARENT)
        try:
            os.mkdir(part, 0o755, dir_fd=parent)
        except FileExistsError:
            pass
        finally:
            os.close(parent)
        made = posixpath.join(made, part)


class AtomicWrite:
    """A file that appears whole under its name, or not at all. Its methods may be called on several threads."""

    def __init__(self, place: Place, mode: int) -> None:
        self._place = place
        self._mode = mode
        self._digest = hashlib.sha256()
        # A caller that goes away while a piece is written closes it from another thread.
        self._turn = threading.Lock()
        self._parent, self._name = _open_parent(place)
        self._temporary = f".{self._name[:100]}.{os.urandom(6).hex()}.part"
        try:
            self._refuse_what_is_no_file()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            self._fd = open_beneath(self._parent, self._temporary, flags, 0o600)
        except BaseException:
            os.close(self._parent)
            raise

    def _refuse_what_is_no_file(self) -> None:
        try:
            info = os.stat(self._name, dir_fd=self._parent, follow_symlinks=False)
        except FileNotFoundError:
            self._mode = self._mode or DEFAULT_MODE
            return
        self._mode = self._mode or stat.S_IMODE(info.st_mode)
        if not stat.S_ISREG(info.st_mode):
            kind = (
                "a directory" if stat.S_ISDIR(info.st_mode) else "a link or special file; write to what it stands for"
            )
            raise WrongState(f"{self._place.shown} is {kind}")

    def write(self, data: bytes) -> None:
        with self._turn:
            self._digest.update(data)
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]

    def commit(self, expected_sha256: str) -> tuple[FileInfo, str]:
        """Puts the file in its place. Raises `Stale` where the file that is there is not the expected one."""
        with self._turn:
            if expected_sha256 and expected_sha256 != self._current():
                raise Stale(f"{self._place.shown} is not the file that was expected; read it again")
            os.fchmod(self._fd, self._mode & 0o777)
            os.rename(self._temporary, self._name, src_dir_fd=self._parent, dst_dir_fd=self._parent)
            self._temporary = ""
            return FileInfo.of(self._place.path, os.fstat(self._fd)), self._digest.hexdigest()

    def _current(self) -> str:
        try:
            fd = open_beneath(self._parent, self._name, os.O_RDONLY | os.O_NOFOLLOW | _PLAIN)
        except FileNotFoundError:
            return ""
        with os.fdopen(fd, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def close(self) -> None:
        """Leaves everything as it was, where the file was not committed."""
        with self._turn:
            if self._fd < 0:
                return
            os.close(self._fd)
            self._fd = -1
            if self._temporary:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._temporary, dir_fd=self._parent)
            os.close(self._parent)


def edit(place: Place, old: str, new: str, *, everywhere: bool) -> tuple[FileInfo, int]:
    """Replaces text that occurs once, or everywhere. Returns how often it was replaced."""
    opened = open_file(place)
    try:
        if opened.info.size > MAX_EDIT_BYTES:
            raise LimitExceeded(f"{place.shown} has more than {MAX_EDIT_BYTES} bytes; edit it with a command")
        content = opened.read_at(0, MAX_EDIT_BYTES + 1)
    finally:
        opened.close()
    try:
        content.decode()
    except UnicodeDecodeError:
        raise WrongState(f"{place.shown} is not UTF-8 text") from None
    # In bytes: text of the whole of Unicode would take four times the room.
    find, put = old.encode(), new.encode()
    count = content.count(find)
    if count == 0 or (count > 1 and not everywhere):
        what = (
            "does not occur" if count == 0 else f"occurs {count} times; give more of its surroundings, or replace all"
        )
        raise WrongState(f"the text to replace {what} in {place.shown}")
    if len(content) + count * (len(put) - len(find)) > MAX_EDIT_BYTES:
        raise LimitExceeded(f"{place.shown} would have more than {MAX_EDIT_BYTES} bytes then; edit it with a command")
    writing = AtomicWrite(place, 0)
    try:
        writing.write(content.replace(find, put))
        info, _digest = writing.commit(hashlib.sha256(content).hexdigest())
    finally:
        writing.close()
    return info, count
