"""An adapter as a process: killed before and after the platform's call, frozen, cut off, and left on a dead connection.

The platform recognises nothing by itself. Whatever happens, it shows every delivery once, in the order of its chat.
"""

import asyncio
import os
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest

from tests.fakes.cutting_proxy import CuttingProxy, cutting_proxy
from tests.fakes.runtime_server import FakeRuntime, serve_fake_runtime
from tests.faults.host_process import SECONDS, HostProcess, serving
from tests.faults.storm.platform import SURFACE, lines

SEED = 4
LONGER_THAN_A_DEADLINE = 11.0
"""Seconds: a connection that is silent for nine is dead for its other side."""


class AdapterProcess:
    """Started again whenever it ends, as by an operator's supervisor."""

    def __init__(self, host: HostProcess, folder: Path, network: CuttingProxy) -> None:
        self._host = host
        self._network = network
        self.folder = folder
        self.process: asyncio.subprocess.Process | None = None
        self._stopped = False

    async def keep(self) -> None:
        token = self.folder / "adapter.token"
        token.write_text(self._host.token)
        address = f"127.0.0.1:{self._network.port}"
        while not self._stopped:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.faults.storm.platform", "--host", address, "--token", str(token)),
                *("--folder", str(self.folder)),
            )
            await self.process.wait()

    def signal(self, number: int) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    def stop(self) -> None:
        self._stopped = True
        self.signal(signal.SIGKILL)

    def shown(self) -> list[list[str]]:
        return lines(self.folder / "shown")

    async def shows_more(self, count: int) -> float:
        """Answers how many seconds that took."""
        began, enough = time.monotonic(), len(self.shown()) + count
        async with asyncio.timeout(SECONDS):
            while len(self.shown()) < enough:  # noqa: ASYNC110 - another process shows it
                await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def all_shown(self) -> None:
        """Nothing more is said, and everything that was said has its answer on the platform."""
        (self.folder / "stop").touch()
        async with asyncio.timeout(SECONDS):
            while not self._complete():  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)

    def _complete(self) -> bool:
        said = sum(len(lines(path)) for path in self.folder.glob("sent-*"))
        states = [state for _, state, _ in self.deliveries()]
        return said == len(states) and set(states) <= {"acknowledged"}

    def deliveries(self) -> list[tuple[str, str, str]]:
        with closing(sqlite3.connect(f"file:{self._host.database}?mode=ro", uri=True)) as connection:
            return connection.execute(
                "SELECT delivery_id, state, conversation_id FROM deliveries WHERE surface = ?"
                " ORDER BY conversation_id, sequence",
                (SURFACE,),
            ).fetchall()

    def check(self) -> None:
        """Each delivery stands there once, and each chat in its order."""
        shown = [line[0] for line in self.shown()]
        assert Counter(shown) == {delivery_id: 1 for delivery_id, _, _ in self.deliveries()}
        for chat in {conversation_id for _, _, conversation_id in self.deliveries()}:
            wanted = [delivery_id for delivery_id, _, conversation_id in self.deliveries() if conversation_id == chat]
            assert [one for one in shown if one in set(wanted)] == wanted


@asynccontextmanager
async def an_adapter(folder: Path) -> AsyncIterator[tuple[AdapterProcess, CuttingProxy, HostProcess]]:
    async with serve_fake_runtime(FakeRuntime()) as runtime, serving(HostProcess(folder, runtime)) as host:
        with cutting_proxy(host.port) as network:
            adapter = AdapterProcess(host, folder, network)
            keeping = asyncio.create_task(adapter.keep())
            try:
                await adapter.shows_more(4)
                yield adapter, network, host
                await adapter.all_shown()
                adapter.check()
            finally:
                adapter.stop()
                await keeping


async def test_killed_again_and_again_it_shows_everything_once(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    async with an_adapter(tmp_path) as (adapter, _, _):
        for _ in range(12):
            await adapter.shows_more(1)
            # Somewhere between a call of the platform and the next one.
            await asyncio.sleep(chance.random() * 0.06)
            adapter.signal(signal.SIGKILL)
        await adapter.shows_more(4)


async def test_killed_together_with_the_host(tmp_path: Path) -> None:
    async with serve_fake_runtime(FakeRuntime()) as runtime:
        host = HostProcess(tmp_path, runtime)
        host.listen_again()
        async with serving(host):
            with cutting_proxy(host.port) as network:
                adapter = AdapterProcess(host, tmp_path, network)
                keeping = asyncio.create_task(adapter.keep())
                try:
                    for _ in range(4):
                        await adapter.shows_more(3)
                        adapter.signal(signal.SIGKILL)
                        await host.restart()
                    await adapter.shows_more(3)
                    await adapter.all_shown()
                    adapter.check()
                finally:
                    adapter.stop()
                    await keeping


def frozen(adapter: AdapterProcess, network: CuttingProxy, host: HostProcess) -> Callable[[], None]:
    adapter.signal(signal.SIGSTOP)
    return lambda: adapter.signal(signal.SIGCONT)


def host_frozen(adapter: AdapterProcess, network: CuttingProxy, host: HostProcess) -> Callable[[], None]:
    os.kill(host.pid, signal.SIGSTOP)
    return lambda: os.kill(host.pid, signal.SIGCONT)


@pytest.mark.heavy
@pytest.mark.parametrize("freeze", [frozen, host_frozen])
async def test_one_side_is_frozen_for_longer_than_the_other_waits(
    tmp_path: Path, freeze: Callable[[AdapterProcess, CuttingProxy, HostProcess], Callable[[], None]]
) -> None:
    async with an_adapter(tmp_path) as (adapter, network, host):
        thaw = freeze(adapter, network, host)
        try:
            await asyncio.sleep(LONGER_THAN_A_DEADLINE)
        finally:
            thaw()
        print(f"back after {await adapter.shows_more(4):.1f} s")


async def test_connections_are_cut_again_and_again(tmp_path: Path) -> None:
    async with an_adapter(tmp_path) as (adapter, network, _):
        for _ in range(10):
            await adapter.shows_more(2)
            network.cut()
        print(f"back after {await adapter.shows_more(1):.1f} s")


async def test_a_connection_on_which_nothing_passes_any_more_is_left(tmp_path: Path) -> None:
    async with an_adapter(tmp_path) as (adapter, network, _):
        assert network.strand()
        seconds = await adapter.shows_more(8)
        # Well under the minute that a person would wait; the figure is in the log.
        print(f"back after {seconds:.1f} s")
        assert seconds < 30
