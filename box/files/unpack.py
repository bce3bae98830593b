"""An archive unpacked beneath a directory of a session: aside first, then moved to its place."""

import contextlib
import errno
import os
import stat
import threading
from dataclasses import dataclass, replace

from portway.box.files.operations import empty_directory, make_parents
from portway.box.files.places import Place
from portway.box.files.tar_header import Kind, shown, wrong
from portway.box.files.tar_read import ArchiveLimits, Entry, TarReader
from portway.box.isolation.syscalls import RESOLVE_NO_SYMLINKS, open_beneath
from portway.rpc.errors import LimitExceeded, PortwayError, WrongState

MAX_ENTRIES = 100_000
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What an archive held."""

    files: int
    bytes: int
    directories: int
    links: int


class TreeWriter:
    """Makes the entries of an archive beneath an open directory. Nothing that is there is opened or followed."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._parent: tuple[bytes, int] = (b"", -1)
        self._file = -1
        self._made = 0
        self.files = self.directories = self.links = 0

    def begin(self, entry: Entry) -> None:
        if not entry.path:
            return
        head, _slash, name = entry.path.rpartition(b"/")
        try:
            parent = self._directory(head)
            self._make(entry, parent, os.fsdecode(name))
        except FileExistsError:
            raise wrong(f"{shown(entry.path)} is in it twice") from None
        except NotADirectoryError:
            raise wrong(f"{shown(entry.path)} lies below something in it that is no directory") from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise wrong(f"{shown(entry.path)} goes over a link in it") from None
            raise

    def _make(self, entry: Entry, parent: int, name: str) -> None:
        match entry.kind:
            case Kind.FILE:
                self._file = open_beneath(parent, name, _NEW_FILE, 0o600, resolve=RESOLVE_NO_SYMLINKS)
                self.files += 1
            case Kind.LINK:
                os.symlink(entry.target, os.fsencode(name), dir_fd=parent)
                self.links += 1
            case _:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=parent)
                opened = open_beneath(parent, name, _OPEN_DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)
                try:
                    # Its owner can always go on in it: what comes later may lie below.
                    os.fchmod(opened, entry.mode | 0o700)
                finally:
                    os.close(opened)
                self.directories += 1

    def _directory(self, path: bytes) -> int:
        """The open directory of a path, made where it is missing. The last one is kept: neighbours come in a row."""
        if not path:
            return self._root
        if self._parent[0] != path or self._parent[1] < 0:
            self._forget_parent()
            self._parent = (path, self._reach(path))
        return self._parent[1]

    def _reach(self, path: bytes) -> int:
        try:
            return open_beneath(self._root, os.fsdecode(path), _OPEN_DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)
        except FileNotFoundError:
            pass
        made = b""
        for part in path.split(b"/"):
            made = made + b"/" + part if made else part
            head, _slash, name = made.rpartition(b"/")
            above = open_beneath(self._root, os.fsdecode(head) or ".", _OPEN_DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)
            try:
                os.mkdir(name, 0o755, dir_fd=above)
                self._made += 1
            except FileExistsError:
                pass
            finally:
                os.close(above)
            if self._made > MAX_ENTRIES:
                raise LimitExceeded(f"the archive needs more than {MAX_ENTRIES} directories that it does not name")
        return open_beneath(self._root, os.fsdecode(path), _OPEN_DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)

    def data(self, piece: memoryview) -> None:
        while piece:
            piece = piece[os.write(self._file, piece) :]

    def end(self, entry: Entry) -> None:
        if entry.kind is not Kind.FILE:
            return
        os.fchmod(self._file, entry.mode)
        os.utime(self._file, ns=(entry.modify_time_ns, entry.modify_time_ns))
        self._close_file()

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _forget_parent(self) -> None:
        if self._parent[1] >= 0:
            os.close(self._parent[1])
            self._parent = (b"", -1)

    def close(self) -> None:
        self._close_file()
        self._forget_parent()


class Unpacking:
    """An upload under way. Its methods may be called on several threads; only after `commit` is anything in place."""

    def __init__(self, place: Place, total_bytes: int, *, with_parents: bool) -> None:
        # A caller that goes away while a piece is written closes it from another thread.
        self._turn = threading.Lock()
        if with_parents:
            make_parents(replace(place, relative=f"{place.relative}/."))
        self._target = open_beneath(place.directory.fd, place.relative, os.O_RDONLY | os.O_DIRECTORY)
        self._name = f".upload-{os.urandom(8).hex()}.part"
        self._path = place.path
        try:
            os.mkdir(self._name, 0o700, dir_fd=self._target)
            self._staging = open_beneath(self._target, self._name, _OPEN_DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)
        except BaseException:
            os.close(self._target)
            raise
        self._tree = TreeWriter(self._staging)
        self._reader = TarReader(self._tree, ArchiveLimits(MAX_ENTRIES, total_bytes))

    def feed(self, data: bytes) -> None:
        with self._turn:
            self._reader.feed(data)

    def commit(self) -> Unpacked:
        """Puts everything in its place. What would not fit is found before anything is moved."""
        with self._turn:
            self._reader.finish()
            self._tree.close()
            self._merge(self._staging, self._target, self._path, moving=False)
            self._merge(self._staging, self._target, self._path, moving=True)
            tree = self._tree
            return Unpacked(tree.files, self._reader.byte_count, tree.directories, tree.links)

    def _merge(self, source: int, target: int, path: str, *, moving: bool) -> None:
        for name in os.listdir(source):
            own = os.stat(name, dir_fd=source, follow_symlinks=False)
            try:
                other = os.stat(name, dir_fd=target, follow_symlinks=False)
            except FileNotFoundError:
                if moving:
                    os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
                continue
            both = stat.S_ISDIR(own.st_mode), stat.S_ISDIR(other.st_mode)
            if both == (True, True):
                self._merge_below(source, target, name, f"{path}/{name}", moving=moving)
            elif any(both):
                here, there = ("no directory", "a directory")[:: -1 if both[0] else 1]
                raise WrongState(f"{path}/{name} is {there} in the session and {here} in the archive")
            elif moving:
                os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)

    def _merge_below(self, source: int, target: int, name: str, path: str, *, moving: bool) -> None:
        inner = open_beneath(source, name, _OPEN_DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)
        try:
            outer = open_beneath(target, name, _OPEN_DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)
            try:
                self._merge(inner, outer, path, moving=moving)
            finally:
                os.close(outer)
        finally:
            os.close(inner)

    def close(self) -> None:
        """Removes what was unpacked aside and is not in its place."""
        with self._turn:
            if self._staging < 0:
                return
            self._tree.close()
            os.close(self._staging)
            self._staging = -1
            # What the session's own user did to it meanwhile may hold this up: then it stays, as that user's.
            with contextlib.suppress(OSError, PortwayError):
                empty_directory(self._target, self._name)
                os.rmdir(self._name, dir_fd=self._target)
            os.close(self._target)
