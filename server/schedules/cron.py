"""When a schedule's times are. Local times of a zone, as instants; a change of the clocks loses and doubles nothing.

Fixed times (`30 2 * * *`) happen once on every day: one that the clocks leap over happens at the first moment after
the leap, one that comes twice happens the first time. Times that recur within the hour or every hour (`*/10 * * * *`,
`0 * * * *`) follow the time that really passes.
"""

from collections import deque
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from portway.server.storage_engine.clock import SECOND, Micros

NAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS = 5
# A time that comes back while the clocks are turned back is passed over; an hour holds sixty of them at most.
_REPEATED = 200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class BadCron(Exception):
    """The text says what is wrong."""


def check_cron(cron: str, time_zone: str, now: Micros) -> None:
    """Raises BadCron for an expression or a zone that cannot be used, and for one that never comes."""
    if next_after(cron, time_zone, now) is None:
        raise BadCron(f"{cron!r} never comes")


def check_zone(time_zone: str) -> None:
    """Raises BadCron."""
    try:
        _zone(time_zone)
    except (KeyError, ValueError, OSError):
        raise BadCron(f"{time_zone!r} is no IANA time zone, for example `Europe/Berlin` or `UTC`") from None


def next_after(cron: str, time_zone: str, after: Micros) -> Micros | None:
    """The first time after an instant; nothing where there is none in fifty years. Raises BadCron."""
    times = _times(cron, time_zone, after)
    for _ in range(_REPEATED):
        try:
            found = _micros(next(times))
        except (StopIteration, OverflowError, ValueError):
            return None
        if found > after:
            return found
    return None


def latest_between(cron: str, time_zone: str, after: Micros, until: Micros, limit: int) -> list[Micros]:
    """The newest `limit` times after one instant and up to another, oldest first. Raises BadCron.

    The span looked through grows from the end, so that a year of missed minutes costs no more than a day of them.
    """
    span = limit * 60 * SECOND
    while True:
        start = max(after, until - span)
        found: deque[Micros] = deque(maxlen=limit)
        at = next_after(cron, time_zone, start)
        while at is not None and at <= until:
            found.append(at)
            at = next_after(cron, time_zone, at)
        if len(found) >= limit or start <= after:
            return list(found)
        span *= 4


def _times(cron: str, time_zone: str, after: Micros) -> CronSim:
    check_zone(time_zone)
    fields = NAMES.get(cron.strip().lower(), cron)
    if len(fields.split()) != FIELDS:
        raise BadCron(
            f"{cron!r} needs five fields (minute, hour, day of month, month, day of week), or a name such as @daily"
        )
    start = (_EPOCH + timedelta(microseconds=after)).astimezone(_zone(time_zone))
    try:
        return CronSim(fields, start)
    except CronSimError as error:
        raise BadCron(f"{cron!r} cannot be used: {str(error).lower()}") from None


@lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo:
    return UTC if name in ("", "UTC") else ZoneInfo(name)


def _micros(moment: datetime) -> Micros:
    return (moment.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
