"""A schedule: when, for whom, and what happens when a time is missed or comes too early."""

from dataclasses import dataclass
from enum import StrEnum

from portway.server.agents.types import ManagedBy

EVENT_TYPE = "schedule.triggered"
# Nobody else submits under it: the keys of times are taken by their schedule alone.
SOURCE = "portway.schedules"
DEFAULT_CATCH_UP = 10


class Overlap(StrEnum):
    """What happens to a time that comes while the last run executes."""

    SKIP = "skip"
    QUEUE = "queue"
    CANCEL = "cancel"
    ALLOW = "allow"


class CatchUp(StrEnum):
    """What happens to times that were missed."""

    NONE = "none"
    LAST = "last"
    ALL = "all"


class TimeOutcome(StrEnum):
    """What became of the last time. '' before the first."""

    NONE = ""
    FIRED = "fired"
    SKIPPED = "skipped"
    MISSED = "missed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSpec:
    """What somebody wants. `cron` has five fields or is a name such as `@daily`; `time_zone` is an IANA name.

    `agent_id` '' lets the bindings decide, `conversation_id` '' is a conversation of its own. `data_json` is the
    operator's own data of the event.
    """

    name: str
    cron: str
    time_zone: str = "UTC"
    agent_id: str = ""
    conversation_id: str = ""
    data_json: str = ""
    overlap: Overlap = Overlap.SKIP
    catch_up: CatchUp = CatchUp.NONE
    catch_up_limit: int = DEFAULT_CATCH_UP
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as it is kept. Times are microseconds; `next_time` 0: none comes (it is off)."""

    workspace_id: str
    schedule_id: str
    revision: int
    managed_by: ManagedBy
    spec: ScheduleSpec
    next_time: int
    last_time: int
    last_event_id: str
    last_run_id: str
    last_outcome: TimeOutcome
    last_reason: str
    create_time: int
    update_time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """What becomes of a schedule after a time was dealt with. Empty texts leave what was there."""

    next_time: int
    outcome: TimeOutcome
    reason: str = ""
    time: int = 0
    event_id: str = ""
    run_id: str = ""


def key_of(schedule_id: str, time: int) -> str:
    """The key of a time's event: the same time is never accepted twice, whoever submits it however often."""
    return f"{schedule_id}:{time}"
