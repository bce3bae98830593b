"""What one look at the machine found."""

from dataclasses import dataclass
from enum import StrEnum


class FindingState(StrEnum):
    """LIMITED: something is made up for, or few need it. MISSING: no command can run without it."""

    OK = "ok"
    LIMITED = "limited"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """`cost`: what its lack costs; `advice`: what to do; both empty where all is well."""

    name: str
    state: FindingState
    found: str
    cost: str = ""
    advice: str = ""


def fine(name: str, found: str) -> Finding:
    return Finding(name, FindingState.OK, found)


def limited(name: str, found: str, cost: str, advice: str) -> Finding:
    return Finding(name, FindingState.LIMITED, found, cost, advice)


def missing(name: str, found: str, cost: str, advice: str) -> Finding:
    return Finding(name, FindingState.MISSING, found, cost, advice)
