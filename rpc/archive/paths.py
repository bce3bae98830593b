"""Paths within a folder that travels, such as a skill or a plugin: relative, with `/`, the same on every system."""

import unicodedata
from collections.abc import Iterable

from portway.rpc.errors import InvalidInput

MAX_PATH_BYTES = 1024
_MAX_PART_BYTES = 255
_MAX_DEPTH = 16
# What Windows and some archives take for a separator, a drive or a stream.
_FORBIDDEN = frozenset('\\:*?"<>|')


def checked_path(path: str, field: str = "path", *, owner: str = "skill", deepest: int = _MAX_DEPTH) -> str:
    """The path in its one spelling. Raises InvalidInput where it leads out of its `owner` or cannot be written."""
    spelled = unicodedata.normalize("NFC", path)
    problem = _problem_of(spelled, owner, deepest)
    if problem:
        raise _wrong(field, path, problem, owner)
    return spelled


def _problem_of(spelled: str, owner: str, deepest: int) -> str:
    if not spelled or len(spelled.encode(errors="surrogatepass")) > MAX_PATH_BYTES:
        return f"it must have 1 to {MAX_PATH_BYTES} bytes"
    if spelled.startswith("/"):
        return f"it is absolute; give it relative to the {owner}"
    parts = spelled.split("/")
    if len(parts) > deepest:
        return f"it is deeper than {deepest} folders"
    return next((problem for part in parts if (problem := _problem_of_part(part))), "")


def _problem_of_part(part: str) -> str:
    if part in ("", ".", ".."):
        return "it holds an empty part, `.` or `..`"
    if part != part.strip() or part.endswith("."):
        return "a part of it begins or ends with a space, or ends with a dot"
    if len(part.encode(errors="surrogatepass")) > _MAX_PART_BYTES:
        return f"a part of it is longer than {_MAX_PART_BYTES} bytes"
    if any(one in _FORBIDDEN or unicodedata.category(one) in ("Cc", "Cs") for one in part):
        return "it holds a character that file names cannot have"
    return ""


def check_no_clash(paths: Iterable[str], field: str = "path", *, owner: str = "skill") -> None:
    """Raises InvalidInput where two paths would be one file on some systems, or a file is also a folder."""
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in paths:
        key = path.casefold()
        if key in seen:
            raise _wrong(field, path, f"it clashes with {seen[key]!r}", owner)
        seen[key] = path
        parts = key.split("/")
        for depth in range(1, len(parts)):
            folders["/".join(parts[:depth])] = path
    for key, path in seen.items():
        if key in folders:
            raise _wrong(field, path, f"it is a file and the folder of {folders[key]!r}", owner)


def check_folders_spelled_once(paths: Iterable[str], field: str = "path", *, owner: str = "skill") -> None:
    """Raises InvalidInput where the names of two folders differ only in case: some systems would make one of them."""
    spelled: dict[str, str] = {}
    for path in paths:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            if spelled.setdefault(folder.casefold(), folder) != folder:
                raise _wrong(field, path, f"its folder clashes with {spelled[folder.casefold()]!r}", owner)


def _wrong(field: str, path: str, description: str, owner: str) -> InvalidInput:
    return InvalidInput.field(field, f"{path[:120]!r} cannot be the path of a file in a {owner}: {description}")
