"""Glob and grep in a session: the search runs inside its limits, here its results are collected."""

import asyncio
import json
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from portway.box.backends.interface import Search
from portway.box.files.failures import meaning_of
from portway.box.files.places import Place, find_place
from portway.box.files.types import FileInfo, LineMatch, type_of
from portway.box.sessions.live import OpenSession
from portway.rpc.errors import DeadlineExceeded, InvalidInput, LimitExceeded, Unavailable

MAX_RESULT_BYTES = 3 * 1024 * 1024
_READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class GlobQuery:
    directory: str
    pattern: str
    limit: int


@dataclass(frozen=True, slots=True)
class GrepQuery:
    root: str
    pattern: str
    include: str
    ignore_case: bool
    limit: int


async def glob(session: OpenSession, query: GlobQuery, patience: float) -> tuple[Sequence[FileInfo], bool]:
    """Files by path, and whether there were more."""
    if query.pattern.startswith("/") or ".." in query.pattern.split("/"):
        raise InvalidInput.field("pattern", "must be relative to the directory, without `..`")
    place = find_place(session.sandbox.files(), session.spec.working_directory, query.directory)
    asked = {"kind": "glob", "start": place.relative, "pattern": query.pattern, "limit": query.limit}
    results, truncated = await _search(session, place, asked, patience)
    return [_file(place, result) for result in results], truncated


async def grep(session: OpenSession, query: GrepQuery, patience: float) -> tuple[Sequence[LineMatch], bool]:
    """Lines by path and number, and whether there were more."""
    place = find_place(session.sandbox.files(), session.spec.working_directory, query.root)
    asked = {
        "kind": "grep",
        "start": place.relative,
        "pattern": query.pattern,
        "include": query.include,
        "ignore_case": query.ignore_case,
        "limit": query.limit,
    }
    results, truncated = await _search(session, place, asked, patience)
    return [LineMatch(_path(place, one), one["line_number"], one["line"]) for one in results], truncated


def _path(place: Place, result: dict[str, Any]) -> str:
    return posixpath.join(place.path, result["path"]) if result["path"] else place.path


def _file(place: Place, result: dict[str, Any]) -> FileInfo:
    mode = result["mode"]
    return FileInfo(_path(place, result), type_of(mode), result["size"], mode & 0o7777, result["mtime_ns"])


async def _search(
    session: OpenSession, place: Place, asked: dict[str, Any], patience: float
) -> tuple[list[dict[str, Any]], bool]:
    search = await session.sandbox.search(json.dumps(asked).encode(), place.index)
    try:
        async with asyncio.timeout(patience):
            lines = await _read_all(search)
    except TimeoutError:
        raise DeadlineExceeded(
            f"the search was stopped after {patience:g} s; use a simpler pattern or a smaller directory"
        ) from None
    finally:
        await search.close()
    last = lines.pop() if lines else {}
    if "error" in last:
        if last["error"] == "pattern":
            raise InvalidInput.field("pattern", last["text"])
        raise meaning_of(last["errno"], place.path)
    if not last.get("end"):
        raise Unavailable("the search ended before it was done, for example by the session's memory limit")
    return lines, last["truncated"]


async def _read_all(search: Search) -> list[dict[str, Any]]:
    collected = bytearray()
    while data := await search.read(_READ_BYTES):
        collected += data
        if len(collected) > MAX_RESULT_BYTES:
            raise LimitExceeded(f"the search found more than {MAX_RESULT_BYTES} bytes; ask for less")
    return [json.loads(line) for line in collected.splitlines()]
