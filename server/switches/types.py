"""Kill switches."""

from dataclasses import dataclass
from enum import StrEnum

# Stops everything of a kind.
EVERY = "*"


class SwitchKind(StrEnum):
    """What a switch stops."""

    AGENT = "agent"
    BOT = "bot"
    MODEL = "model"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class KillSwitch:
    """One that is on. `reason` is for people; `update_time` says since when, in microseconds."""

    workspace_id: str
    kind: SwitchKind
    target_id: str
    reason: str
    update_time: int
