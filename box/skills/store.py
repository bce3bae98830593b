"""The files of skills in this box, by workspace and digest. They can all be put again: what is here is a copy."""

import contextlib
import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from portway.box.files.tar_header import Kind, shown, wrong
from portway.box.files.tar_read import ArchiveLimits, Entry, TarReader
from portway.box.files.unpack import TreeWriter
from portway.rpc.errors import InvalidInput, LimitExceeded

MAX_ENTRIES = 2000
MAX_FILES = 500
MAX_SKILL_BYTES = 32 * 1024 * 1024
_INCOMING = "incoming-"
_BLOCK = 4096


@dataclass(frozen=True, slots=True, order=True)
class SkillKey:
    """A skill's files. Two workspaces that have the same ones have them twice: neither learns of the other."""

    workspace_id: str
    digest: str

    @property
    def folder(self) -> str:
        return f"{hashlib.sha256(self.workspace_id.encode()).hexdigest()[:32]}/{self.digest}"


@dataclass(frozen=True, slots=True)
class Taken:
    """A skill that was put."""

    files: int
    bytes: int
    existed: bool


class SkillStore:
    """Blocking; its methods may be called on several threads."""

    def __init__(self, root: Path, most_bytes: int) -> None:
        self.root = root
        self._most = most_bytes
        self._turn = threading.Lock()
        self._in_use: Callable[[], frozenset[str]] = frozenset

    def start(self, in_use: Callable[[], frozenset[str]]) -> int:
        """Removes what was being put when the box ended. `in_use` names the folders that sessions show."""
        self._in_use = in_use
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        swept = 0
        for folder in self.root.iterdir():
            if folder.name.startswith(_INCOMING):
                shutil.rmtree(folder, ignore_errors=True)
                swept += 1
        return swept

    def has(self, key: SkillKey) -> bool:
        """Asking for it keeps it from being the next to go."""
        try:
            os.utime(self.root / key.folder)
        except FileNotFoundError:
            return False
        return True

    def receive(self, key: SkillKey) -> "IncomingSkill":
        return IncomingSkill(self, key)

    def keep(self, key: SkillKey, incoming: Path, size: int) -> bool:
        """Puts a whole skill in its place. Whether it was not there before. Raises `LimitExceeded`."""
        with self._turn:
            place = self.root / key.folder
            if place.is_dir():
                return False
            self._make_room(size)
            place.parent.mkdir(mode=0o700, exist_ok=True)
            incoming.rename(place)
            _sync(place.parent)
            return True

    def _make_room(self, size: int) -> None:
        """The longest unused ones go, but for those that sessions show."""
        kept = {folder: _size(self.root / folder) for folder in self._folders()}
        total = sum(kept.values()) + size
        in_use = self._in_use() if total > self._most else frozenset()
        unused = sorted((folder for folder in kept if folder not in in_use), key=self._used)
        for folder in unused:
            if total <= self._most:
                return
            shutil.rmtree(self.root / folder, ignore_errors=True)
            total -= kept[folder]
        if total > self._most:
            raise LimitExceeded(
                f"the skills that sessions show fill the {self._most} bytes that the box has for skills; delete "
                "sessions, or set `box.skills_bytes` higher",
                retry_after=10.0,
            )

    def _folders(self) -> list[str]:
        return [
            f"{workspace.name}/{skill.name}"
            for workspace in self.root.iterdir()
            if not workspace.name.startswith(_INCOMING)
            for skill in workspace.iterdir()
        ]

    def _used(self, folder: str) -> float:
        with contextlib.suppress(FileNotFoundError):
            return (self.root / folder).stat().st_mtime
        return 0.0


class IncomingSkill:
    """A skill that arrives, and the sink of its archive: every file is hashed as it is written."""

    def __init__(self, store: SkillStore, key: SkillKey) -> None:
        self._store = store
        self._key = key
        self._turn = threading.Lock()
        self._folder = store.root / f"{_INCOMING}{os.urandom(8).hex()}"
        self._folder.mkdir(mode=0o700)
        self._root = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._tree = TreeWriter(self._root)
        self._reader = TarReader(self, ArchiveLimits(MAX_ENTRIES, MAX_SKILL_BYTES))
        self._lines: list[tuple[bytes, bytes]] = []
        self._hash = hashlib.sha256()

    def begin(self, entry: Entry) -> None:
        if entry.kind is Kind.LINK:
            raise wrong(f"{shown(entry.path)} is a link, and a skill has files and directories only")
        try:
            entry.path.decode()
        except UnicodeDecodeError:
            raise wrong(f"the name {shown(entry.path)} is not UTF-8") from None
        if len(self._lines) >= MAX_FILES and entry.kind is Kind.FILE:
            raise LimitExceeded(f"a skill may have {MAX_FILES} files")
        self._hash = hashlib.sha256()
        executable = entry.kind is Kind.DIRECTORY or bool(entry.mode & 0o111)
        self._tree.begin(replace(entry, mode=0o755 if executable else 0o644))

    def data(self, piece: memoryview) -> None:
        self._hash.update(piece)
        self._tree.data(piece)

    def end(self, entry: Entry) -> None:
        if entry.kind is Kind.FILE:
            bit = b"1" if entry.mode & 0o111 else b"0"
            self._lines.append((entry.path, b"%s\0%s\0%s\n" % (entry.path, bit, self._hash.hexdigest().encode())))
        mode = 0o755 if entry.mode & 0o111 else 0o644
        self._tree.end(replace(entry, mode=mode))

    def feed(self, data: bytes) -> None:
        with self._turn:
            self._reader.feed(data)

    def commit(self) -> Taken:
        """Raises `InvalidInput` where the files are not those of the digest."""
        with self._turn:
            self._reader.finish()
            self._tree.close()
            found = hashlib.sha256(b"".join(line for _path, line in sorted(self._lines))).hexdigest()
            if found != self._key.digest:
                raise InvalidInput.field("start.digest", f"the files have the digest {found}")
            _settle(self._folder)
            size = self._reader.byte_count + _BLOCK * (len(self._lines) + 1)
            kept = self._store.keep(self._key, self._folder, size)
            return Taken(len(self._lines), self._reader.byte_count, not kept)

    def close(self) -> None:
        with self._turn:
            if self._root < 0:
                return
            self._tree.close()
            os.close(self._root)
            self._root = -1
            shutil.rmtree(self._folder, ignore_errors=True)


def _settle(folder: Path) -> None:
    """Open to the users of sessions, and on disk: a name that stands for content must not outlive it."""
    for _path, _directories, files, opened in os.fwalk(folder, follow_symlinks=False):
        os.fchmod(opened, 0o755)
        for name in files:
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=opened)
            try:
                os.fsync(file)
            finally:
                os.close(file)
        os.fsync(opened)


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _size(folder: Path) -> int:
    total = 0
    for _path, _directories, files, opened in os.fwalk(folder, follow_symlinks=False):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(name, dir_fd=opened, follow_symlinks=False).st_size + _BLOCK
    return total + _BLOCK
