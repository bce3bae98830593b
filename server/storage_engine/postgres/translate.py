"""Statements with `:name` parameters, as PostgreSQL takes them: `$1`, and the names in their order."""

import re
from functools import lru_cache

# A text in quotes, a cast, or a parameter; only the last is changed.
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|::|:([a-z_][a-z0-9_]*)")


@lru_cache(maxsize=2048)
def translated(sql: str) -> tuple[bytes, tuple[str, ...]]:
    """The statement, and which parameter each place takes. One name is one place, however often it stands there."""
    names: dict[str, int] = {}

    def place(found: re.Match[str]) -> str:
        name = found.group(1)
        return found.group() if name is None else f"${names.setdefault(name, len(names) + 1)}"

    return _TOKEN.sub(place, sql).encode(), tuple(names)
