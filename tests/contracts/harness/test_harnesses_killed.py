"""Nothing of a harness's program outlives its run, however that ends: each harness, in the box and on the machine.

Each program starts children that fork away, begin sessions of their own, ignore every signal that can be ignored and
hold its output open. For each ending all of them are seen first, and counted; then none is left.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

import pytest

from portway.clients.host import Accepted, Portway
from portway.v1 import run_pb2
from tests.contracts.harness.stacks import PLACES, VENDORS, Harnessed, harnessed
from tests.e2e.stack import alive
from tests.sandbox import needs_sandbox
from tests.waiting import until

pytestmark = [needs_sandbox, pytest.mark.heavy]
CELLS = [f"{runner}-{place}" for runner in VENDORS for place in PLACES]
# The program itself, and what it starts at least.
PROCESSES = 6
ALL_PLANTED = "all-planted"
Begun = Mapping[str, Accepted]


def plugins(stack: Harnessed) -> list[int]:
    """Processes of the plugins of harnesses, which are descendants of the installation's own runtime."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                said = (entry / "stat").read_text()
            except OSError:
                continue
            name = said.partition("(")[2].rpartition(")")[0]
            known = name.startswith("pw:") and any(one in name for one in ("claude", "codex", "acp", "exec"))
            if known and f"{stack.stack.data}".encode() in _ancestry(int(entry.name)):
                found.append(int(entry.name))
    return found


def _ancestry(pid: int) -> bytes:
    words = b""
    while pid > 1:
        try:
            words += Path(f"/proc/{pid}/cmdline").read_bytes()
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return words


def _gone(pid: int) -> bool:
    return not alive(pid)


async def begin(stack: Harnessed, word: str, suffix: str = "") -> tuple[Begun, Mapping[str, int]]:
    """A program in each cell, and how many processes each has."""
    begun = {cell: await stack.begin(f"{cell}{suffix}", f"{word} x") for cell in CELLS}
    for cell in CELLS:
        await until(partial(_is_there, stack, cell))
    return begun, {cell: len(stack.processes_of(cell)) for cell in CELLS}


def _is_there(stack: Harnessed, cell: str) -> bool:
    return any(ALL_PLANTED in words for words in stack.processes_of(cell))


async def ends(stack: Harnessed, begun: Begun) -> Mapping[str, run_pb2.Run]:
    async with stack.stack.client() as host:
        return {cell: await _end(host, one) for cell, one in begun.items()}


async def _end(host: Portway, begun: Accepted) -> run_pb2.Run:
    async for _ in host.runs.watch(begun.run_id):
        pass
    return await host.runs.get(begun.run_id)


async def finished(stack: Harnessed) -> Mapping[str, int]:
    """Each says how many it left behind alive when it said its last word."""
    told = await asyncio.gather(*(stack.say(cell, "forest_done x") for cell in CELLS))
    return {cell: int(one.text) + 1 for cell, one in zip(CELLS, told, strict=True)}


async def cancelled(stack: Harnessed) -> Mapping[str, int]:
    begun, seen = await begin(stack, "forest")
    async with stack.stack.client() as host:
        for one in begun.values():
            await host.runs.cancel(one.run_id)
    ended = await ends(stack, begun)
    assert {one.state for one in ended.values()} == {run_pb2.RUN_STATE_CANCELLED}
    return seen


async def late(stack: Harnessed) -> Mapping[str, int]:
    begun, seen = await begin(stack, "forest", "-brief")
    ended = await ends(stack, begun)
    assert {cell: one.error.code for cell, one in ended.items()} == dict.fromkeys(CELLS, "harness.timeout")
    return seen


async def plugin_killed(stack: Harnessed) -> Mapping[str, int]:
    begun, seen = await begin(stack, "forest")
    killed = plugins(stack)
    assert len(killed) >= len(VENDORS)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    for pid in killed:
        await until(partial(_gone, pid))
    ended = await ends(stack, begun)
    assert {one.error.code for one in ended.values()} == {"runner.crashed"}
    return seen


async def part_killed(part: str, stack: Harnessed) -> Mapping[str, int]:
    begun, seen = await begin(stack, "forest")
    old = await stack.stack.kill(part)
    await stack.stack.restarted(part, old)
    if part == "box":
        # Those of the machine know nothing of the box: they go on, and are ended as any other.
        on_machine = {cell: one for cell, one in begun.items() if cell.endswith("-machine")}
        await until(lambda: not [one for cell in CELLS if cell not in on_machine for one in stack.processes_of(cell)])
        assert all(_is_there(stack, cell) for cell in on_machine)
        async with stack.stack.client() as host:
            for one in on_machine.values():
                await host.runs.cancel(one.run_id)
    await ends(stack, begun)
    return seen


ENDINGS: Mapping[str, Callable[[Harnessed], Awaitable[Mapping[str, int]]]] = {
    "finished": finished,
    "cancelled": cancelled,
    "deadline": late,
    "plugin killed": plugin_killed,
    "runtime killed": partial(part_killed, "runtime"),
    "host killed": partial(part_killed, "host"),
    "box killed": partial(part_killed, "box"),
}


async def test_however_a_run_ends_nothing_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for one in (tmp_path, *tmp_path.parents[:3]):
        one.chmod(0o755)
    table = [f"{'processes seen, all gone after':32}" + "".join(f"{cell:>22}" for cell in CELLS)]
    async with harnessed(tmp_path) as stack:
        for name, ending in ENDINGS.items():
            seen = await ending(stack)
            assert all(count >= PROCESSES for count in seen.values()), (name, seen)
            await until(lambda: not stack.processes())
            told = await asyncio.gather(*(stack.say(cell, "ok still well") for cell in CELLS))
            assert {one.text for one in told} == {"still well"}, (name, [one.run.error for one in told])
            table.append(f"{name:32}" + "".join(f"{seen[cell]:>22}" for cell in CELLS))
    with capsys.disabled():
        print("\n" + "\n".join(table))
