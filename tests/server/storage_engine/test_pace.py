"""When a writer waits for more units to share a commit, by a clock of the test's own."""

from portway.server.storage_engine.pace import LONGEST, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_few_units_never_wait() -> None:
    clock = Clock()
    pace = Pace(clock)
    for arrived in range(1, 200):
        clock.now += 0.002
        assert pace.wait(arrived, 1) == 0.0


def test_many_units_wait_a_little_and_no_longer_than_a_good_group_takes_to_come() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.wait(10, 1) == 0.0
    clock.now += 0.01
    assert pace.wait(30, 1) == LONGEST
    clock.now += 0.01
    assert 0.0 < pace.wait(1030, 10) < 0.001
    assert pace.wait(1030, 16) == 0.0


def test_after_a_rush_nobody_waits() -> None:
    clock = Clock()
    pace = Pace(clock)
    clock.now += 0.01
    assert pace.wait(100, 1) > 0.0
    clock.now += 0.5
    assert pace.wait(101, 1) == 0.0
