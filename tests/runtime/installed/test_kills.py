"""A runtime that is killed at each step of a change has the state from before or the one after, and nothing else."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from portway.rpc.channel import open_channel
from portway.rpc.errors import NotFound, PortwayError
from portway.rpc.status import errors_by_meaning
from portway.rpc.tokens import mint_token
from portway.runtime.installed.store import FileRecords
from portway.v1 import runtime_pb2 as pb
from portway.v1 import runtime_pb2_grpc
from tests.runtime.host_end import HostEnd
from tests.runtime.installed.packs import RUNNER, Stub, install, left_behind, packed, plugin
from tests.waiting import until

Change = Callable[[Stub, Path], Awaitable[object]]


class Runtime:
    """A runtime on a folder, started again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.arm = folder / "arm"
        self._token = mint_token("service")
        entry = {"id": self._token.token_id, "sha256": self._token.secret_hash.hex(), "role": "admin"}
        self._credentials = folder / "credentials.json"
        self._credentials.write_text(json.dumps({"tokens": [entry | {"workspace_id": "*"}]}))
        self._credentials.chmod(0o600)

    @asynccontextmanager
    async def serving(self, kill_at: int = 0) -> AsyncIterator[tuple[asyncio.subprocess.Process, Stub, HostEnd]]:
        """`kill_at`: it kills itself before that step, counted from when `arm` is there."""
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        self.arm.unlink(missing_ok=True)
        command = ["-m", "portway.runtime"]
        if kill_at:
            installed = str(self.data / "installed")
            command = ["-m", "tests.runtime.installed.killed_at", installed, str(self.arm), str(kill_at)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *command, "--data", str(self.data), "--credentials", str(self._credentials)),
            *("--ready-file", str(ready)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
        try:
            await until(lambda: ready.exists() or process.returncode is not None)
            assert process.returncode is None
            address = json.loads(ready.read_text())["address"]
            async with open_channel(address, token=self._token.text) as channel:
                yield process, runtime_pb2_grpc.RuntimeServiceStub(channel), HostEnd(channel)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _upgrade(stub: Stub, packs: Path) -> object:
    return await install(stub, (packs / "2.zip").read_bytes(), pb.InstallPluginStart(request_id="again"))


async def _first(stub: Stub, packs: Path) -> object:
    return await install(stub, (packs / "1.zip").read_bytes(), pb.InstallPluginStart(request_id="again"))


async def _rollback(stub: Stub, packs: Path) -> object:
    request = pb.RollbackPluginRequest(plugin_id="test/one", request_id="again")
    with errors_by_meaning():
        return await stub.RollbackPlugin(request)


async def _remove(stub: Stub, packs: Path) -> object:
    with errors_by_meaning():
        return await stub.RemovePlugin(pb.RemovePluginRequest(plugin_id="test/one", request_id="again"))


async def _disable(stub: Stub, packs: Path) -> object:
    with errors_by_meaning():
        return await stub.DisablePlugin(pb.DisablePluginRequest(plugin_id="test/one"))


@dataclass(frozen=True, slots=True)
class Case:
    """What is there before (versions installed in this order), what is done, and what is right afterwards."""

    before: tuple[int, ...]
    change: Change
    old: str
    new: str


CASES: Mapping[str, Case] = {
    "install": Case((), _first, "nothing", "1"),
    "upgrade": Case((1,), _upgrade, "1", "2"),
    "rollback": Case((1, 2), _rollback, "2", "1"),
    "remove": Case((1, 2), _remove, "2", "nothing"),
    "disable": Case((1,), _disable, "1", "disabled"),
}


async def _prepared(folder: Path, case: Case) -> Runtime:
    packs = folder / "packs"
    packs.mkdir()
    for number in (1, 2):
        (packs / f"{number}.zip").write_bytes(packed(folder / "made", str(number)))
    runtime = Runtime(folder)
    async with runtime.serving() as (_, stub, _host):
        for number in case.before:
            await install(stub, (packs / f"{number}.zip").read_bytes())
    shutil.copytree(runtime.data / "installed", folder / "baseline")
    return runtime


async def _what_there_is(runtime: Runtime, stub: Stub, host: HostEnd) -> str:
    """By its own word, by a run, and by what lies on disk."""
    named = {one.folder for one in FileRecords(runtime.data / "installed" / "records").get("test/one").versions}
    assert left_behind(runtime.data) == sorted(f"versions/{folder}" for folder in named), "nothing is left behind"
    try:
        found = await plugin(stub)
    except NotFound:
        assert not named
        return "nothing"
    assert found.version in {one.version for one in found.versions}
    if found.disabled:
        return "disabled"
    assert (await host.finished("", RUNNER)).message == found.version, "what runs is what is told"
    return found.version


async def _killed_at(runtime: Runtime, case: Case, step: int) -> str:
    """What there is after a kill before that step; 'done' where the change was over before it."""
    shutil.rmtree(runtime.data / "installed")
    shutil.copytree(runtime.folder / "baseline", runtime.data / "installed")
    packs = runtime.folder / "packs"
    async with runtime.serving(step) as (process, stub, host):
        if case.before:
            # The old version has a process, as one that is in use does.
            await host.finished("", RUNNER)
        runtime.arm.touch()
        try:
            await case.change(stub, packs)
        except PortwayError:
            await asyncio.wait_for(process.wait(), 60)
        else:
            return "done"
    async with runtime.serving() as (_, stub, host):
        after = await _what_there_is(runtime, stub, host)
        assert after in (case.old, case.new)
        # Asked again it is done, once.
        await _again(case, stub, packs)
        assert await _what_there_is(runtime, stub, host) == case.new
    return after


async def _again(case: Case, stub: Any, packs: Path) -> None:
    await case.change(stub, packs)


@pytest.mark.parametrize(("name", "step"), [("upgrade", 9)])
async def test_a_kill_amid_a_change_leaves_the_old_or_the_new(tmp_path: Path, name: str, step: int) -> None:
    case = CASES[name]
    runtime = await _prepared(tmp_path, case)
    assert await _killed_at(runtime, case, step) in (case.old, case.new)


@pytest.mark.heavy
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CASES)
async def test_a_kill_at_each_step_leaves_the_old_or_the_new(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    runtime = await _prepared(tmp_path, case)
    outcomes: list[str] = []
    for step in count(1):
        outcome = await _killed_at(runtime, case, step)
        if outcome == "done":
            break
        outcomes.append(outcome)
    print(f"{name}: {len(outcomes)} kills, {outcomes.count(case.old)} old, {outcomes.count(case.new)} new")
    assert len(outcomes) >= 3
    assert outcomes == sorted(outcomes, key=(case.old, case.new).index), "once it is decided it stays so"
    assert outcomes[0] == case.old
