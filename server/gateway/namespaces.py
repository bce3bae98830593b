"""Tools that a program offers in groups, as Codex does those of MCP servers: `namespace` tools with functions inside.

Providers know no groups. A tool is offered to them as `GROUP__NAME` where that fits and is free, else with a digest;
its calls go back in both parts.
"""

import hashlib
import re
from collections.abc import Iterable

_LONGEST = 64
_PLAIN = re.compile(rf"[A-Za-z0-9_-]{{1,{_LONGEST}}}\Z")
_OTHER = re.compile(r"[^A-Za-z0-9_-]")
_DIGEST = 8

Grouped = tuple[str, str]


class Namespaces:
    """Of one request. `plain`: names of tools without a group, which stay as they are."""

    def __init__(self, grouped: Iterable[Grouped] = (), plain: Iterable[str] = ()) -> None:
        self._flat: dict[Grouped, str] = {}
        self._parts: dict[str, Grouped] = {}
        taken = set(plain)
        for group, name in grouped:
            flat = _flat(group, name)
            if flat in taken:
                flat = _with_digest(group, name)
            taken.add(flat)
            self._flat[group, name] = flat
            self._parts[flat] = (group, name)

    def flat(self, group: str, name: str) -> str:
        """As the provider knows it; also for one that was offered only in an earlier turn."""
        if not group:
            return name
        return self._flat.get((group, name)) or _flat(group, name)

    def parts(self, flat: str) -> Grouped:
        """Its group, '' for none, and its name there."""
        return self._parts.get(flat, ("", flat))


def _flat(group: str, name: str) -> str:
    joined = f"{group.rstrip('_')}__{name}"
    return joined if _PLAIN.match(joined) else _with_digest(group, name)


def _with_digest(group: str, name: str) -> str:
    digest = hashlib.sha256(f"{group}\0{name}".encode()).hexdigest()[:_DIGEST]
    readable = _OTHER.sub("_", f"{group.rstrip('_')}__{name}")
    return f"{readable[: _LONGEST - _DIGEST - 1]}_{digest}"
