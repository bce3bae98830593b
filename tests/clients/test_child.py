"""The supervisor keeps real processes running, and stops them."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from portway.clients.supervisor.child import Child, PartFailed, Serving
from portway.clients.supervisor.layout import Layout
from portway.clients.supervisor.parts import Part, Settings, parts_of
from portway.rpc.configuration import EXIT_CODE

PATIENCE = 60.0


def part(*arguments: str, optional: bool = False) -> Part:
    return Part("fake", "tests.fakes.part", arguments, "127.0.0.1:0", optional=optional)


class Starts:
    """Remembers every start; `nth` waits for one."""

    def __init__(self) -> None:
        self.seen: list[Serving] = []
        self._changed = asyncio.Condition()

    async def __call__(self, name: str, serving: Serving) -> None:
        async with self._changed:
            self.seen.append(serving)
            self._changed.notify_all()

    async def nth(self, count: int) -> Serving:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: len(self.seen) >= count)
        return self.seen[count - 1]


@asynccontextmanager
async def kept(
    what: Part, tmp_path: Path, on_ready: Callable[[str, Serving], Awaitable[None]]
) -> AsyncIterator[tuple[Child, "asyncio.Task[None]"]]:
    child = Child(what, tmp_path / "ready.json", os.environ, on_ready)
    keeping = asyncio.create_task(child.keep())
    try:
        yield child, keeping
    finally:
        await child.stop(grace=5.0)
        await asyncio.gather(keeping, return_exceptions=True)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_killed_part_is_started_again_on_the_port_that_it_had(tmp_path: Path) -> None:
    starts = Starts()
    async with kept(part(), tmp_path, starts):
        first = await starts.nth(1)
        os.kill(first.pid, signal.SIGKILL)
        second = await starts.nth(2)
    assert second.pid != first.pid
    assert first.address == second.address == "127.0.0.1:4242"
    assert not alive(second.pid)


async def test_a_part_that_never_starts_ends_the_start_and_says_which(tmp_path: Path) -> None:
    async with kept(part("--die-with", "3"), tmp_path, Starts()) as (_, keeping):
        with pytest.raises(PartFailed, match=r"fake could not start \(exit code 3\)"):
            await asyncio.wait_for(keeping, PATIENCE)


async def test_an_optional_part_that_does_not_start_holds_nobody_up(tmp_path: Path) -> None:
    async with kept(part("--die-with", "3", optional=True), tmp_path, Starts()) as (child, keeping):
        await asyncio.wait_for(child.given_up.wait(), PATIENCE)
        assert not keeping.done()


async def test_wrong_settings_are_not_tried_again_even_where_the_part_is_optional(tmp_path: Path) -> None:
    async with kept(part("--die-with", str(EXIT_CODE), optional=True), tmp_path, Starts()) as (_, keeping):
        with pytest.raises(PartFailed):
            await asyncio.wait_for(keeping, PATIENCE)


async def test_a_part_that_ignores_the_request_to_end_is_killed(tmp_path: Path) -> None:
    starts = Starts()
    async with kept(part("--deaf"), tmp_path, starts) as (child, keeping):
        serving = await starts.nth(1)
        await child.stop(grace=0.2)
        assert not alive(serving.pid)
        await asyncio.wait_for(keeping, PATIENCE)
    assert len(starts.seen) == 1


def test_a_part_finds_only_its_own_settings_in_its_environment(tmp_path: Path) -> None:
    whole = {
        "PATH": "/bin",
        "PORTWAY__MODELS__PROVIDERS": "with a key",
        "PORTWAY__BOX__ENABLED": "false",
        "PORTWAY__LOG__LEVEL": "debug",
        "PORTWAY__MODLES__DEFAULT": "a typing error",
    }
    parts = parts_of(Settings(tmp_path, 0, 0, None), Layout(tmp_path))
    found = {part.name: set(part.environment(whole)) for part in parts}
    shared = {"PATH", "PORTWAY__LOG__LEVEL", "PORTWAY__MODLES__DEFAULT"}
    assert found == {
        "runtime": shared,
        "web": shared,
        "box": shared | {"PORTWAY__BOX__ENABLED"},
        "host": shared | {"PORTWAY__MODELS__PROVIDERS"},
    }


def test_a_variable_that_a_setting_names_reaches_the_part_of_the_setting_alone(tmp_path: Path) -> None:
    config = tmp_path / "portway.yaml"
    config.write_text(
        "models:\n  providers:\n    one: {kind: openai, api_key_env: KEY_IN_FILE}\n"
        "runtime:\n  grants:\n    some/plugin: [FOR_A_PLUGIN]\n"
    )
    secrets = {
        "KEY_IN_FILE": "1",
        "KEY_IN_ENVIRONMENT": "2",
        "FOR_A_PLUGIN": "3",
        "FOR_NOBODY": "4",
        "PORTWAY_TOKEN": "5",
        "PGPASSWORD": "6",
    }
    whole = {"PATH": "/bin", **secrets, "PORTWAY__MODELS__PROVIDERS__TWO__API_KEY_ENV": "KEY_IN_ENVIRONMENT"}
    parts = parts_of(Settings(tmp_path, 0, 0, config), Layout(tmp_path))
    found = {part.name: set(part.environment(whole)) & set(secrets) for part in parts}
    assert found == {
        "runtime": {"FOR_A_PLUGIN"},
        "web": set(),
        "box": set(),
        "host": {"KEY_IN_FILE", "KEY_IN_ENVIRONMENT", "PGPASSWORD"},
    }
