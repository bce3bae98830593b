"""Names of granted tools as MCP clients list them.

Programs put `mcp__NAME_OF_THE_SERVER__` in front, and models take 64 characters in all. A name that fits and is free is
shown as it is; another one without its kind and with `_` for what does not fit, where that is free, else with a digest
of the whole name behind it. So two tools are never shown as one.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping

LONGEST = 48
_PLAIN = re.compile(rf"[A-Za-z0-9_-]{{1,{LONGEST}}}\Z")
_OTHER = re.compile(r"[^A-Za-z0-9_-]+")
_KIND = re.compile(r"(?:mcp|plugin|skill):")
_DIGEST = 8


def shown_names(names: Iterable[str], reserved: Iterable[str]) -> Mapping[str, str]:
    """Real names by shown ones. The same names give the same answer, in whatever order."""
    every = sorted(set(names))
    taken = set(reserved)
    shown: dict[str, str] = {}
    plain = [name for name in every if _PLAIN.match(name) and name not in taken]
    for name in plain:
        shown[name] = name
    taken |= set(plain)
    others = [name for name in every if name not in shown]
    wishes = {name: _OTHER.sub("_", _KIND.sub("", name, count=1)).strip("_") or "tool" for name in others}
    for name in others:
        wish = wishes[name]
        alone = list(wishes.values()).count(wish) == 1
        candidate = wish if alone and len(wish) <= LONGEST and wish not in taken else _with_digest(wish, name)
        while candidate in taken:
            candidate = _with_digest(wish, f"{name}\0{candidate}")
        shown[candidate] = name
        taken.add(candidate)
    return shown


def _with_digest(wish: str, text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]
    return f"{wish[: LONGEST - _DIGEST - 1]}_{digest}"
