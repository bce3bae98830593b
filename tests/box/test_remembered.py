"""What is kept of commands with request ids: bounded for all together, and nobody pays for another workspace."""

import time
from asyncio import Event

import pytest

from portway.box.backends.types import Exit, ExitStatus
from portway.box.processes import remembered
from portway.box.processes.remembered import KEPT_SECONDS, Effect, Remembered
from portway.box.processes.types import CommandResult, Output

OUTPUT = b"x" * 64 * 1024


def begun(age: float = 0.0, *, running: bool = False) -> Effect:
    return Effect("digest", "BOX", time.time() - age, None, Event() if running else None)


def ended(output: bytes = b"") -> CommandResult:
    return CommandResult(Output(output, b"", 0, 0), Exit(ExitStatus.COMPLETED, 0, None, 0.0, 0.0, None))


def kept_output(effects: Remembered, workspace_id: str, count: int) -> int:
    found = [effects.get((workspace_id, str(number))) for number in range(count)]
    return sum(len(one.result.output.stdout) for one in found if one is not None and one.result is not None)


def test_a_workspace_that_floods_pushes_out_its_own_and_no_others() -> None:
    effects = Remembered()
    for number in range(10):
        effects.add(("quiet", str(number)), begun())
        effects.keep(("quiet", str(number)), ended(OUTPUT))
    for number in range(remembered.MOST_KEPT + 100):
        effects.add(("noisy", str(number)), begun())
    for number in range(500):
        effects.keep(("noisy", str(remembered.MOST_KEPT + 99 - number)), ended(OUTPUT))
    assert sum(1 for _ in effects.items()) == remembered.MOST_KEPT
    assert effects.get(("noisy", "0")) is None
    assert kept_output(effects, "quiet", 10) == 10 * len(OUTPUT)
    # The exit stays where the output had to go.
    newest = effects.get(("noisy", str(remembered.MOST_KEPT + 99)))
    assert newest is not None and newest.result is not None
    whole = sum(len(one.result.output.stdout) for _, one in effects.items() if one.result is not None)
    assert remembered.MOST_OUTPUT_TOGETHER - len(OUTPUT) <= whole <= remembered.MOST_OUTPUT_TOGETHER


def test_what_is_old_is_forgotten_and_what_runs_is_not() -> None:
    effects = Remembered()
    effects.add(("w", "long"), begun(KEPT_SECONDS + 1, running=True))
    effects.add(("w", "old"), begun(KEPT_SECONDS + 1))
    effects.add(("w", "new"), begun())
    assert effects.get(("w", "old")) is None
    assert {name[1] for name, _ in effects.items()} == {"long", "new"}
    effects.add(("elsewhere", "old"), begun(KEPT_SECONDS + 1, running=True))
    effects.forget_old(time.time() - KEPT_SECONDS)
    assert effects.get(("elsewhere", "old")) is not None


@pytest.mark.parametrize("name", [("w", "missing"), ("nobody", "a")])
def test_what_is_not_there_is_neither_kept_nor_forgotten_twice(name: tuple[str, str]) -> None:
    effects = Remembered()
    effects.add(("w", "a"), begun())
    effects.keep(name, ended(OUTPUT))
    effects.forget(name)
    assert effects.get(name) is None
    assert [one for one, _ in effects.items()] == [("w", "a")]
