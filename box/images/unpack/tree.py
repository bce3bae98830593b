"""A directory tree that entries are put into. Names are walked by the kernel, beneath its root, without links."""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Set
from typing import TypeVar

from portway.box.images.unpack.tar import Body, Entry, Kind, shown
from portway.box.images.unpack.terms import Budget, Refused
from portway.box.isolation.syscalls import RESOLVE_NO_SYMLINKS, open_beneath

_DIRECTORY = os.O_PATH | os.O_DIRECTORY
_FILE_MODE, _PROGRAM_MODE, DIRECTORY_MODE = 0o644, 0o755, 0o755
T = TypeVar("T")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Tree:
    """Takes entries in. The last one of a name stands, as with every program that unpacks.

    Files become 0644 or 0755, directories 0755: owners, rights to become another user, attributes are not kept.
    """

    def __init__(self, root: int, budget: Budget, leave_out: Set[str] = frozenset()) -> None:
        """`leave_out`: names at the top whose entries are not taken."""
        self._root = root
        self._budget = budget
        self._leave_out = leave_out
        self._near: tuple[tuple[str, ...], int] | None = None
        self.left_out: dict[str, int] = {}

    def put(self, entry: Entry, body: Body) -> bool:
        """Whether it was taken. Raises `Refused` for one that could not be meant well."""
        if not entry.parts:
            return False
        if entry.kind is Kind.OTHER:
            return self._leave("devices, sockets and pipes")
        if entry.parts[0] in self._leave_out:
            return self._leave("entries below " + ", ".join(f"/{name}" for name in sorted(self._leave_out)))
        if entry.kind is Kind.FILE and entry.mode & 0o6000:
            self._leave("rights of programs to become another user")
        self._budget.entry()
        with self._told(entry):
            match entry.kind:
                case Kind.DIRECTORY:
                    self._make_directory(entry.parts)
                case Kind.FILE:
                    self._budget.announce(entry.size)
                    self._write(entry, body)
                case Kind.SYMLINK:
                    self._place(entry.parts, lambda name, parent: os.symlink(entry.target, name, dir_fd=parent))
                case Kind.HARD_LINK:
                    self._link(entry)
        return True

    def _leave(self, what: str) -> bool:
        self.left_out[what] = self.left_out.get(what, 0) + 1
        return False

    @staticmethod
    @contextlib.contextmanager
    def _told(entry: Entry) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise Refused("the disk of the box is full", "size") from None
            if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EXDEV):
                raise Refused(f"{shown(entry.path)} leads through a link or a file that was unpacked before") from None
            raise Refused(f"{shown(entry.path)} cannot be made: {os.strerror(error.errno or 0)}") from None

    def _make_directory(self, parts: tuple[str, ...]) -> None:
        parent = self._parent(parts)
        try:
            os.mkdir(parts[-1], DIRECTORY_MODE, dir_fd=parent)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(parts[-1], dir_fd=parent, follow_symlinks=False).st_mode):
                return
            remove_all(parent, parts[-1])
            os.mkdir(parts[-1], DIRECTORY_MODE, dir_fd=parent)

    def _write(self, entry: Entry, body: Body) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        opened = self._place(entry.parts, lambda name, parent: os.open(name, flags, 0o600, dir_fd=parent))
        try:
            while piece := body.read():
                view = memoryview(piece)
                while view:
                    view = view[os.write(opened, view) :]
            os.fchmod(opened, _PROGRAM_MODE if entry.mode & 0o111 else _FILE_MODE)
        finally:
            os.close(opened)

    def _link(self, entry: Entry) -> None:
        target = tuple(entry.target.split("/")) if entry.target else ()
        if not target or target[0] in self._leave_out:
            raise Refused(f"{shown(entry.path)} is a hard link to what is not in the image")
        if target == entry.parts:
            return
        source = -1
        try:
            source = os.dup(self._parent(target, make=False))
            kind = os.stat(target[-1], dir_fd=source, follow_symlinks=False).st_mode
            if not (stat.S_ISREG(kind) or stat.S_ISLNK(kind)):
                raise Refused(f"{shown(entry.path)} is a hard link to a directory")

            def link(name: str, parent: int) -> None:
                os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)

            self._place(entry.parts, link)
        except FileNotFoundError:
            raise Refused(f"{shown(entry.path)} is a hard link to what is not in the image") from None
        finally:
            if source >= 0:
                os.close(source)

    def _place(self, parts: tuple[str, ...], make: Callable[[str, int], T]) -> T:
        """Makes something under a name, in place of what has it already."""
        parent = self._parent(parts)
        try:
            return make(parts[-1], parent)
        except FileExistsError:
            remove_all(parent, parts[-1])
            return make(parts[-1], parent)

    def _parent(self, parts: tuple[str, ...], *, make: bool = True) -> int:
        """The directory that holds the last part; lasts until the next one is asked for."""
        above = parts[:-1]
        if self._near is not None and self._near[0] == above:
            return self._near[1]
        self._forget()
        opened = self._open(above, make=make)
        self._near = (above, opened)
        return opened

    def _open(self, parts: tuple[str, ...], *, make: bool) -> int:
        try:
            return open_beneath(self._root, "/".join(parts) or ".", _DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)
        except FileNotFoundError:
            if not make or not parts:
                raise
        above = self._open(parts[:-1], make=True)
        try:
            self._budget.entry()
            os.mkdir(parts[-1], DIRECTORY_MODE, dir_fd=above)
        finally:
            os.close(above)
        return open_beneath(self._root, "/".join(parts), _DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)

    def remove(self, parts: tuple[str, ...]) -> None:
        """Takes an entry away with all below it; nothing happens where it is not there."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            parent = self._open(parts[:-1], make=False)
            self._forget()
            try:
                remove_all(parent, parts[-1])
            finally:
                os.close(parent)

    def names(self, parts: tuple[str, ...]) -> list[tuple[str, bool]]:
        """What is in a directory, and which of it are directories; nothing where there is none."""
        try:
            opened = open_beneath(
                self._root, "/".join(parts) or ".", os.O_RDONLY | os.O_DIRECTORY, resolve=RESOLVE_NO_SYMLINKS
            )
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            with os.scandir(opened) as found:
                return [(each.name, each.is_dir(follow_symlinks=False)) for each in found]
        finally:
            os.close(opened)

    def _forget(self) -> None:
        if self._near is not None:
            os.close(self._near[1])
            self._near = None

    def close(self) -> None:
        self._forget()


def remove_all(parent: int, name: str) -> None:
    """Removes an entry of an open directory with all below it, following no link. No deeper than entries may be."""
    try:
        os.unlink(name, dir_fd=parent)
        return
    except IsADirectoryError:
        pass
    opened = open_beneath(parent, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        for child in os.listdir(opened):
            remove_all(opened, child)
    finally:
        os.close(opened)
    os.rmdir(name, dir_fd=parent)
