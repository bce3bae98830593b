"""What a status tells."""

from dataclasses import dataclass
from enum import StrEnum


class PartState(StrEnum):
    """How a part of the installation is."""

    OK = "ok"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Part:
    """One part. `reason`: what does not work, why, and what to do; empty where all is well."""

    name: str
    state: PartState
    reason: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts of now, and of the database since the host started."""

    queued_runs: int
    active_runs: int
    pending_deliveries: int
    stuck_deliveries: int
    free_disk_bytes: int
    sql_statements: int
    sql_commits: int
