"""Glob and grep. Runs in a launcher: as the session's user, inside its limits, killed like a command.

A regular expression of a stranger can take for ever; here that costs the session and nobody else. Imports little, and
opens nothing by name but below the directory that it was given.
"""

import fnmatch
import io
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from portway.box.isolation import syscalls

MAX_DEPTH = 64
MAX_ENTRIES = 500_000
MAX_FILE_BYTES = 32 * 1024 * 1024
MAX_LINE_CHARS = 1000
_BINARY_PROBE = 8192
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


@dataclass(frozen=True, slots=True)
class Entry:
    """Something met on a walk: its path from where the walk began, an open parent, and what it is."""

    path: str
    name: str
    parent: int
    info: os.stat_result

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.info.st_mode)


class _TooMuch(Exception):
    """The walk met more entries than it may."""


def run_search(request: bytes, directory: int, output: int) -> None:
    """Writes one JSON object a line to `output`: results, then `end` or `error`."""
    asked = json.loads(request)
    with io.FileIO(output, "w") as raw, io.BufferedWriter(raw, 64 * 1024) as out:

        def tell(result: dict[str, Any]) -> None:
            out.write(json.dumps(result).encode() + b"\n")

        try:
            search = _glob if asked["kind"] == "glob" else _grep
            truncated = search(asked, directory, tell)
            tell({"end": True, "truncated": truncated})
        except re.error as error:
            tell({"error": "pattern", "text": f"is not a regular expression: {error}"})
        except OSError as error:
            tell({"error": "os", "errno": error.errno, "text": os.strerror(error.errno or 0)})


def _glob(asked: dict[str, Any], directory: int, tell: Callable[[dict[str, Any]], None]) -> bool:
    segments = [segment for segment in asked["pattern"].split("/") if segment not in ("", ".")]
    matcher = _PathMatcher(segments)
    start = syscalls.open_beneath(directory, asked["start"] or ".", os.O_RDONLY | os.O_DIRECTORY)
    left: int = asked["limit"]
    walk = _Walk(matcher.descends)
    try:
        for entry in walk.below(start):
            if matcher.matches(entry.path):
                if left == 0:
                    return True
                left -= 1
                tell(_describe(entry))
    except _TooMuch:
        return True
    finally:
        os.close(start)
    return False


def _describe(entry: Entry) -> dict[str, Any]:
    info = entry.info
    return {"path": entry.path, "mode": info.st_mode, "size": info.st_size, "mtime_ns": info.st_mtime_ns}


class _PathMatcher:
    """Matches paths against pattern segments by following all positions at once, so that no pattern takes long."""

    def __init__(self, segments: list[str]) -> None:
        self._segments = segments
        self._names = [None if one == "**" else re.compile(fnmatch.translate(one), re.DOTALL) for one in segments]

    def matches(self, path: str) -> bool:
        return len(self._segments) in self._follow(path)

    def descends(self, path: str) -> bool:
        return any(position < len(self._segments) for position in self._follow(path))

    def _follow(self, path: str) -> set[int]:
        positions = self._skip({0})
        for name in path.split("/"):
            following: set[int] = set()
            for position in positions:
                if position < len(self._segments):
                    following |= self._step(position, name)
            positions = self._skip(following)
        return positions

    def _step(self, position: int, name: str) -> set[int]:
        hidden = name.startswith(".")
        pattern = self._names[position]
        if pattern is None:
            return set() if hidden else {position}
        if hidden and not self._segments[position].startswith("."):
            return set()
        return {position + 1} if pattern.match(name) else set()

    def _skip(self, positions: set[int]) -> set[int]:
        """`**` also stands for no directory at all; at the end it stands for at least one name."""
        reached = set(positions)
        for position in sorted(positions):
            while position < len(self._segments) - 1 and self._names[position] is None:
                position += 1
                reached.add(position)
            if position == len(self._segments) - 1 and self._names[position] is None and position in positions:
                reached.add(position + 1)
        return reached


def _grep(asked: dict[str, Any], directory: int, tell: Callable[[dict[str, Any]], None]) -> bool:
    expression = re.compile(asked["pattern"], re.IGNORECASE if asked["ignore_case"] else 0)
    include = re.compile(fnmatch.translate(asked["include"])) if asked["include"] else None
    left: int = asked["limit"]
    try:
        for path, number, line in _all_matches(directory, asked["start"] or ".", expression, include):
            if left == 0:
                return True
            left -= 1
            tell({"path": path, "line_number": number, "line": line[:MAX_LINE_CHARS]})
    except _TooMuch:
        return True
    return False


def _all_matches(
    directory: int, start: str, expression: re.Pattern[str], include: re.Pattern[str] | None
) -> Iterator[tuple[str, int, str]]:
    root = syscalls.open_beneath(directory, start, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISDIR(os.fstat(root).st_mode):
            yield from (("", number, line) for number, line in _matches_in(root, expression))
            return
        for entry in _Walk(lambda _path: True).below(root):
            wanted = stat.S_ISREG(entry.info.st_mode) and entry.info.st_size <= MAX_FILE_BYTES
            if wanted and (include is None or include.match(entry.name)):
                try:
                    file = syscalls.open_beneath(entry.parent, entry.name, _FILE)
                except OSError:  # gone, or not for this user
                    continue
                try:
                    for number, line in _matches_in(file, expression):
                        yield entry.path, number, line
                finally:
                    os.close(file)
    finally:
        os.close(root)


def _matches_in(file: int, expression: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    if not stat.S_ISREG(os.fstat(file).st_mode):
        return
    with io.FileIO(file, "r", closefd=False) as raw, io.BufferedReader(raw, 256 * 1024) as reader:
        if b"\0" in reader.peek(_BINARY_PROBE)[:_BINARY_PROBE]:
            return
        number = 0
        while line := reader.readline(MAX_FILE_BYTES):
            number += 1
            text = line.rstrip(b"\r\n").decode("utf-8", "replace")
            if expression.search(text):
                yield number, text


class _Walk:
    """A depth-first walk by name that follows no link and crosses no mount, whatever is changed meanwhile."""

    def __init__(self, descends: Callable[[str], bool]) -> None:
        self._descends = descends
        self._seen = 0

    def below(self, directory: int, prefix: str = "", depth: int = 0) -> Iterator[Entry]:
        for name in sorted(os.listdir(directory)):
            self._seen += 1
            if self._seen > MAX_ENTRIES:
                raise _TooMuch
            try:
                info = os.stat(name, dir_fd=directory, follow_symlinks=False)
            except OSError:  # gone meanwhile
                continue
            entry = Entry(f"{prefix}{name}", name, directory, info)
            yield entry
            if entry.is_directory and depth < MAX_DEPTH and self._descends(entry.path):
                yield from self._enter(entry, depth)

    def _enter(self, entry: Entry, depth: int) -> Iterator[Entry]:
        try:
            inner = syscalls.open_beneath(entry.parent, entry.name, _DIRECTORY)
        except OSError:  # gone, not for this user, or not a directory any more
            return
        try:
            yield from self.below(inner, f"{entry.path}/", depth + 1)
        finally:
            os.close(inner)
