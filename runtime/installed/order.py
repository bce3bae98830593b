"""Which of two versions is the newer one."""

import re

_VERSION = re.compile(r"v?(?P<core>[0-9]+(\.[0-9]+)*)(-?(?P<early>[0-9A-Za-z][0-9A-Za-z.-]*))?(\+.*)?")


def is_older(version: str, than: str) -> bool:
    """Whether a version comes before another, by the rules of semantic versions: `1.10` after `1.9`, `2.0-beta` before
    `2.0`. Versions of another form have no order, so that neither is older."""
    one, other = _VERSION.fullmatch(version), _VERSION.fullmatch(than)
    if one is None or other is None:
        return False
    return _key(one) < _key(other)


def _key(match: re.Match[str]) -> tuple[tuple[int, ...], bool, tuple[tuple[bool, int, str], ...]]:
    core = tuple(int(part) for part in match["core"].split("."))
    while core and core[-1] == 0:
        core = core[:-1]
    early = match["early"]
    parts = tuple((not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in (early or "").split("."))
    return core, early is None, parts
