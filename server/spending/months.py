"""Months and days of budgets, in UTC."""

from dataclasses import dataclass
from datetime import UTC, datetime

from portway.server.spending.types import MICROS, invalid_month


@dataclass(frozen=True, slots=True)
class Month:
    """A month such as 202611. `start` and `end` in microseconds; the end is the beginning of the next one."""

    number: int
    start: int
    end: int

    @property
    def name(self) -> str:
        return f"{self.number // 100:04}-{self.number % 100:02}"

    @property
    def next_day(self) -> str:
        """When a new budget begins, as people read it."""
        return datetime.fromtimestamp(self.end / MICROS, UTC).strftime("%Y-%m-%d")


def month_at(time: int) -> Month:
    """The month that a moment (microseconds) is in."""
    moment = datetime.fromtimestamp(time / MICROS, UTC)
    return _month(moment.year, moment.month)


def month_of(text: str, now: int) -> Month:
    """`2026-11`; '' is the current one. Raises InvalidInput."""
    if not text:
        return month_at(now)
    try:
        moment = datetime.strptime(text, "%Y-%m")
    except ValueError:
        raise invalid_month(text) from None
    if text != moment.strftime("%Y-%m") or not 1970 <= moment.year < 9999:
        raise invalid_month(text)
    return _month(moment.year, moment.month)


def day_at(time: int) -> int:
    """The day that a moment (microseconds) is in, such as 20261121."""
    moment = datetime.fromtimestamp(time / MICROS, UTC)
    return moment.year * 10_000 + moment.month * 100 + moment.day


def day_name(day: int) -> str:
    """`2026-11-21`."""
    return f"{day // 10_000:04}-{day // 100 % 100:02}-{day % 100:02}"


def _month(year: int, month: int) -> Month:
    start = datetime(year, month, 1, tzinfo=UTC)
    end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return Month(year * 100 + month, round(start.timestamp()) * MICROS, round(end.timestamp()) * MICROS)
