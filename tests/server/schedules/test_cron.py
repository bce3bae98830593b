"""When times are: zones, leaps, names, and what cannot be used."""

from datetime import UTC, datetime

import pytest

from portway.server.schedules.cron import BadCron, check_cron, latest_between, next_after
from portway.server.storage_engine.clock import SECOND


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * SECOND)


def told(time: int | None) -> str:
    assert time is not None
    return datetime.fromtimestamp(time / SECOND, UTC).strftime("%Y-%m-%dT%H:%MZ")


def several(cron: str, zone: str, start: str, count: int) -> list[str]:
    found, time = [], at(start)
    for _ in range(count):
        following = next_after(cron, zone, time)
        assert following is not None and following > time
        found.append(told(following))
        time = following
    return found


@pytest.mark.parametrize(
    ("cron", "zone", "start", "times"),
    [
        ("*/15 * * * *", "UTC", "2026-01-01T00:07:00+00:00", ["2026-01-01T00:15Z", "2026-01-01T00:30Z"]),
        ("@daily", "Asia/Shanghai", "2026-01-01T00:00:00+00:00", ["2026-01-01T16:00Z", "2026-01-02T16:00Z"]),
        ("30 7 * * mon-fri", "UTC", "2026-01-02T08:00:00+00:00", ["2026-01-05T07:30Z", "2026-01-06T07:30Z"]),
        ("0 12 29 feb *", "UTC", "2026-01-01T00:00:00+00:00", ["2028-02-29T12:00Z"]),
        ("0 9 L * *", "UTC", "2026-02-01T00:00:00+00:00", ["2026-02-28T09:00Z", "2026-03-31T09:00Z"]),
        # The clocks leap from 2 to 3 o'clock: a fixed time in between comes right after, once, and never in front.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00+00:00", ["2026-03-29T01:00Z", "2026-03-30T00:30Z"]),
        ("15,45 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00+00:00", ["2026-03-29T01:00Z", "2026-03-30T00:15Z"]),
        # They are turned back from 3 to 2: a fixed time comes the first time only, also when asked in the second hour.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00+00:00", ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00+00:00", ["2026-10-26T01:30Z"]),
        # What recurs follows the time that passes: neither lost nor doubled.
        (
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-10-25T00:00:00+00:00",
            ["2026-10-25T00:30Z", "2026-10-25T01:00Z", "2026-10-25T01:30Z", "2026-10-25T02:00Z"],
        ),
        ("0 * * * *", "Europe/Berlin", "2026-03-29T00:00:00+00:00", ["2026-03-29T01:00Z", "2026-03-29T02:00Z"]),
        # Half an hour of daylight saving.
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00+00:00", ["2026-04-04T14:45Z", "2026-04-05T15:15Z"]),
    ],
)
def test_times_follow_the_clocks_of_their_zone(cron: str, zone: str, start: str, times: list[str]) -> None:
    assert several(cron, zone, start, len(times)) == times


@pytest.mark.parametrize(
    ("cron", "zone"),
    [
        ("", "UTC"),
        ("* * * *", "UTC"),
        ("0 * * * * *", "UTC"),
        ("61 * * * *", "UTC"),
        ("0 0 31 2 *", "UTC"),
        ("@sometimes", "UTC"),
        ("* * * * *", "Europe/Nowhere"),
        ("* * * * *", "../etc/passwd"),
        ("* * * * *", "\0"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(cron: str, zone: str) -> None:
    with pytest.raises(BadCron) as caught:
        check_cron(cron, zone, at("2026-01-01T00:00:00+00:00"))
    assert len(str(caught.value)) > 10


def test_missed_times_are_counted_from_the_end() -> None:
    start, end = at("2025-01-01T00:00:00+00:00"), at("2026-01-01T00:00:30+00:00")
    newest = latest_between("* * * * *", "UTC", start, end, 3)
    assert [told(time) for time in newest] == ["2025-12-31T23:58Z", "2025-12-31T23:59Z", "2026-01-01T00:00Z"]
    # Rare ones are found too, and none from before the start.
    assert [told(time) for time in latest_between("0 0 1 1 *", "UTC", start, end, 3)] == ["2026-01-01T00:00Z"]
    assert latest_between("0 0 1 6 *", "UTC", end, end + SECOND, 3) == []
