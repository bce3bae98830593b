"""Which of a schedule's times are made up for now. Decides; changes nothing."""

from dataclasses import dataclass
from datetime import UTC, datetime

from portway.server.schedules.cron import latest_between, next_after
from portway.server.schedules.types import CatchUp, Schedule
from portway.server.storage_engine.clock import SECOND, Micros

# A time that is dealt with later than this was missed: the host was down, busy, or its clock was set forward.
PUNCTUAL = 60 * SECOND
_LEAST = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """`times`: oldest first. `next_time` 0: none comes any more. `missed` says what was left out, '' for nothing."""

    times: tuple[Micros, ...]
    next_time: Micros
    missed: str


def plan_of(schedule: Schedule, now: Micros) -> Plan:
    """For a schedule whose next time has come. Raises BadCron."""
    spec = schedule.spec
    limit = max(spec.catch_up_limit, _LEAST)
    # Also when the expression means another time than when it was kept, the kept one has come.
    due = latest_between(spec.cron, spec.time_zone, schedule.next_time, now, limit)
    if len(due) < limit:
        due = [schedule.next_time, *due]
    match spec.catch_up:
        case CatchUp.NONE:
            chosen = [time for time in due if now - time <= PUNCTUAL]
        case CatchUp.LAST:
            chosen = [time for time in due if now - time <= PUNCTUAL] or due[-1:]
        case CatchUp.ALL:
            chosen = due[-spec.catch_up_limit :]
    missed = ""
    if not chosen or chosen[0] > schedule.next_time:
        until = f" to {_written(due[-1])}" if due[-1] != schedule.next_time else ""
        missed = f"times from {_written(schedule.next_time)}{until} were missed"
    return Plan(tuple(chosen), next_after(spec.cron, spec.time_zone, now) or 0, missed)


def _written(time: Micros) -> str:
    return datetime.fromtimestamp(time // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
