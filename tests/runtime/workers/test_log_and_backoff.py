"""What plugins print is kept within bounds; crashes are followed by pauses that grow."""

import asyncio
import os

import pytest

from portway.runtime.workers.backoff import Backoff
from portway.runtime.workers.log import BURST, MAX_LINE_CHARS, MAX_LINES, LogLine, PipeReader, PluginLog
from tests.waiting import until


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_only_the_last_lines_are_kept() -> None:
    clock = Clock()
    log = PluginLog(clock)
    for number in range(MAX_LINES + 500):
        clock.now += 0.01
        log.add("stdout", str(number))
    lines = log.last(MAX_LINES)
    assert len(lines) == MAX_LINES
    assert (lines[0].text, lines[-1].text) == ("500", str(MAX_LINES + 499))


def test_lines_that_come_too_fast_are_dropped_and_counted() -> None:
    clock = Clock()
    log = PluginLog(clock)
    for _ in range(BURST + 250):
        log.add("stdout", "x")
    clock.now += 1
    log.add("stdout", "after")
    assert (log.last(1)[0].text, log.last(1)[0].dropped) == ("after", 250)


def test_a_line_names_its_run_and_loses_what_is_secret_and_too_long() -> None:
    log = PluginLog()
    log.add("stderr", "\x1erun_7\x1fpassword for https://u:hunter2@example.com")
    log.add("stdout", "y" * (MAX_LINE_CHARS + 100))
    first, second = log.last(2)
    assert first.run_id == "run_7"
    assert "hunter2" not in first.text
    assert len(second.text) == MAX_LINE_CHARS
    assert log.last_error() == first.text


async def test_following_tells_of_lines_that_went_by_too_fast() -> None:
    clock = Clock()
    log = PluginLog(clock)
    stop = asyncio.Event()
    follow = log.follow(10, stop)
    log.add("stdout", "first")
    assert (await anext(follow)).text == "first"
    for number in range(MAX_LINES + 50):
        clock.now += 0.01
        log.add("stdout", str(number))
    line: LogLine = await anext(follow)
    assert (line.text, line.dropped) == ("50", 50)
    stop.set()


async def test_a_pipe_is_cut_into_lines_and_closed_at_its_end() -> None:
    log = PluginLog()
    reading, writing = os.pipe()
    PipeReader(reading, "stdout", log)
    for piece in (b"one\ntw", b"o\r\nbroken \xff\n", b"no end"):
        os.write(writing, piece)
    os.close(writing)
    await until(lambda: len(log.last(10)) == 4)
    assert [line.text for line in log.last(10)] == ["one", "two", "broken \ufffd", "no end"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reading)


def test_the_first_crash_costs_nothing_and_the_next_ones_more_and_more() -> None:
    clock = Clock()
    backoff = Backoff(30.0, clock)
    waits = []
    for _ in range(10):
        backoff.crash(healthy=False)
        waits.append(backoff.remaining())
    assert waits == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    clock.now += 10
    assert backoff.remaining() == 20.0
    backoff.crash(healthy=True)
    assert backoff.remaining() == 0.0
