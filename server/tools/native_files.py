"""The tools `read`, `write`, `edit`, `glob` and `grep`, and how their results read."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from portway.server.tools.arguments import Arguments
from portway.server.tools.box import BoxTools, FileRange, Search
from portway.server.tools.types import BoxSession, ToolResult

# Bytes of a file that are looked at, and characters of a result: what is longer is searched, not read.
_READ_BYTES = 4 << 20
_SNIFFED_BYTES = 8192
_RESULT_CHARS = 64_000
_LINE_CHARS = 2_000
_WORKSPACE = "."


# A call whose arguments were read: what remains to be done in a session.
Operation = Callable[[BoxTools, BoxSession], Coroutine[Any, Any, ToolResult]]


def read(arguments: Arguments) -> Operation:
    path = arguments.text("path")
    first = arguments.whole("first_line", 1, 1, 1_000_000_000)
    count = arguments.whole("lines", 2000, 1, 5000)
    arguments.end()

    async def perform(box: BoxTools, session: BoxSession) -> ToolResult:
        found = await box.read(session, path, _READ_BYTES)
        if b"\0" in found.data[:_SNIFFED_BYTES]:
            text = f"{path} is not a text file; it has {found.size} bytes"
            return ToolResult(text, {"size": found.size}, is_error=True)
        return _excerpt(path, found, first, count)

    return perform


def _excerpt(path: str, found: FileRange, first: int, count: int) -> ToolResult:
    """Numbered lines, and a note where the file goes on."""
    lines = found.data.decode(errors="replace").splitlines()
    cut = found.size > len(found.data)
    known = f"more than {len(lines)}" if cut else str(len(lines))
    if not lines:
        return ToolResult(f"{path} is empty", {"size": found.size, "line_count": 0})
    if first > len(lines):
        return ToolResult(f"{path} has {known} lines, so there is no line {first} to read", is_error=True)
    text, shown = _numbered(lines, first, count)
    last = first - 1 + shown
    note = f"\n(Lines {first} to {last} of {known}.)" if last < len(lines) or cut else ""
    return ToolResult(text + note, {"size": found.size, "line_count": len(lines)})


def _numbered(lines: list[str], first: int, count: int) -> tuple[str, int]:
    """Lines with their numbers within the size of a result, and how many they are."""
    shown: list[str] = []
    chars = 0
    for number, line in enumerate(lines[first - 1 : first - 1 + count], first):
        entry = f"{number}\t{_shortened(line)}"
        chars += len(entry) + 1
        if chars > _RESULT_CHARS:
            break
        shown.append(entry)
    return "\n".join(shown), len(shown)


def _shortened(line: str) -> str:
    return line if len(line) <= _LINE_CHARS else line[:_LINE_CHARS] + " … (line shortened)"


def write(arguments: Arguments) -> Operation:
    path = arguments.text("path")
    content = arguments.text("content", may_be_empty=True)
    arguments.end()

    async def perform(box: BoxTools, session: BoxSession) -> ToolResult:
        size = await box.write(session, path, content.encode())
        return ToolResult(f"wrote {size} bytes to {path}", {"size": size})

    return perform


def edit(arguments: Arguments) -> Operation:
    path = arguments.text("path")
    old = arguments.text("old_text")
    new = arguments.text("new_text", may_be_empty=True)
    everywhere = arguments.flag("everywhere")
    arguments.end()

    async def perform(box: BoxTools, session: BoxSession) -> ToolResult:
        replaced = await box.edit(session, path, old, new, everywhere)
        return ToolResult(f"replaced {replaced} place{'' if replaced == 1 else 's'} in {path}", {"replaced": replaced})

    return perform


def glob(arguments: Arguments) -> Operation:
    search = Search(
        arguments.optional_text("directory", _WORKSPACE),
        arguments.text("pattern"),
        limit=arguments.whole("limit", 200, 1, 1000),
    )
    arguments.end()

    async def perform(box: BoxTools, session: BoxSession) -> ToolResult:
        files, more = await box.glob(session, search)
        return _listing([f"{file.path}\t{file.size} bytes" for file in files], more, "no file matches", "files")

    return perform


def grep(arguments: Arguments) -> Operation:
    search = Search(
        arguments.optional_text("path", _WORKSPACE),
        arguments.text("pattern"),
        arguments.optional_text("include"),
        arguments.flag("ignore_case"),
        arguments.whole("limit", 200, 1, 1000),
    )
    arguments.end()

    async def perform(box: BoxTools, session: BoxSession) -> ToolResult:
        matches, more = await box.grep(session, search)
        lines = [f"{match.path}:{match.number}:{_shortened(match.line)}" for match in matches]
        return _listing(lines, more, "no line matches", "lines")

    return perform


def _listing(lines: list[str], more: bool, nothing: str, what: str) -> ToolResult:
    shown: list[str] = []
    chars = 0
    for line in lines:
        chars += len(line) + 1
        if chars > _RESULT_CHARS:
            more = True
            break
        shown.append(line)
    if not shown:
        return ToolResult(nothing, {"count": 0})
    note = f"\n(These are the first {len(shown)} {what}; there are more, so narrow the pattern.)" if more else ""
    return ToolResult("\n".join(shown) + note, {"count": len(shown), "more": more})
