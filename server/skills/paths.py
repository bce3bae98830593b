"""Paths within a skill: relative, with `/`, the same on every system."""

import unicodedata
from collections.abc import Iterable

from portway.rpc.errors import InvalidInput

MAX_PATH_BYTES = 1024
_MAX_PART_BYTES = 255
_MAX_DEPTH = 16
# What Windows and some archives take for a separator, a drive or a stream.
_FORBIDDEN = frozenset('\\:*?"<>|')


def checked_path(path: str, field: str = "path") -> str:
    """The path in its one spelling. Raises InvalidInput where it leads out of the skill or cannot be written."""
    spelled = unicodedata.normalize("NFC", path)
    if not spelled or len(spelled.encode(errors="surrogatepass")) > MAX_PATH_BYTES:
        raise _wrong(field, path, f"it must have 1 to {MAX_PATH_BYTES} bytes")
    if spelled.startswith("/"):
        raise _wrong(field, path, "it is absolute; give it relative to the skill")
    parts = spelled.split("/")
    if len(parts) > _MAX_DEPTH:
        raise _wrong(field, path, f"it is deeper than {_MAX_DEPTH} folders")
    for part in parts:
        if part in ("", ".", ".."):
            raise _wrong(field, path, "it holds an empty part, `.` or `..`")
        if part != part.strip() or part.endswith("."):
            raise _wrong(field, path, "a part of it begins or ends with a space, or ends with a dot")
        if len(part.encode(errors="surrogatepass")) > _MAX_PART_BYTES:
            raise _wrong(field, path, f"a part of it is longer than {_MAX_PART_BYTES} bytes")
        if any(one in _FORBIDDEN or unicodedata.category(one) in ("Cc", "Cs") for one in part):
            raise _wrong(field, path, "it holds a character that file names cannot have")
    return spelled


def check_no_clash(paths: Iterable[str], field: str = "path") -> None:
    """Raises InvalidInput where two paths would be one file on some systems, or a file is also a folder."""
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in paths:
        key = path.casefold()
        if key in seen:
            raise _wrong(field, path, f"it clashes with {seen[key]!r}")
        seen[key] = path
        parts = key.split("/")
        for depth in range(1, len(parts)):
            folders["/".join(parts[:depth])] = path
    for key, path in seen.items():
        if key in folders:
            raise _wrong(field, path, f"it is a file and the folder of {folders[key]!r}")


def _wrong(field: str, path: str, description: str) -> InvalidInput:
    return InvalidInput.field(field, f"{path[:120]!r} cannot be the path of a file in a skill: {description}")
