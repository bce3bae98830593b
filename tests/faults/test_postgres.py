"""A host on PostgreSQL: killed under load, its database server killed under it, the network between them cut.

What was acknowledged is there exactly once, every run ends with one reply, and nobody has to help. Successes are
counted: a run in which everything merely failed is no pass.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from portway.rpc.errors import PortwayError
from portway.v1 import run_pb2
from tests.fakes.cutting_proxy import cutting_proxy
from tests.fakes.runtime_server import FakeRuntime, serve_fake_runtime
from tests.faults.host_process import HostProcess, ended, serving, submit
from tests.postgres import WITHOUT, PostgresServer, postgres_server, programs

CALLERS = 6


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """One that writes to its disk as in earnest, and that a test may kill."""
    if programs() is None:
        pytest.skip(WITHOUT)
    with postgres_server(durable=True) as running:
        yield running


@asynccontextmanager
async def host_on(url: str, folder: Path) -> AsyncIterator[HostProcess]:
    async with (
        serve_fake_runtime(FakeRuntime()) as runtime,
        serving(HostProcess(folder, runtime, database=url)) as process,
    ):
        yield process


class Load:
    """Callers that submit messages and repeat what was not answered, each under its own key, until told to stop."""

    def __init__(self, process: HostProcess) -> None:
        self._process = process
        self._stop = asyncio.Event()
        self.acknowledged: dict[str, str] = {}
        self.refused = 0

    async def caller(self, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            await self._settle(f"key-{number}-{count}", f"chat-{number}")
            count += 1

    async def _settle(self, key: str, chat: str) -> None:
        while True:
            try:
                async with self._process.client() as host:
                    answer = await submit(host, f"text of {key}", key, chat)
            except (PortwayError, OSError, ValueError):
                self.refused += 1
                await asyncio.sleep(0.05)
            else:
                self.acknowledged[key] = answer.run_id
                return

    async def more(self, count: int) -> None:
        enough = len(self.acknowledged) + count
        async with asyncio.timeout(120):
            while len(self.acknowledged) < enough:  # noqa: ASYNC110 - many tasks add to it
                await asyncio.sleep(0.01)

    async def __aenter__(self) -> "Load":
        self._callers = [asyncio.ensure_future(self.caller(number)) for number in range(CALLERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.wait_for(asyncio.gather(*self._callers), 120)


async def check(process: HostProcess, server: PostgresServer, name: str, load: Load) -> None:
    """Every acknowledged event is there once with one run, and every run ended well."""
    rows = server.run("SELECT dedupe_key, run_id, sequence FROM events WHERE source <> 'none' ORDER BY sequence", name)
    stored = {key: run_id for key, run_id, _ in rows}
    assert len(rows) == len(stored), "an event is there twice"
    assert stored == load.acknowledged
    assert [row[2] for row in rows] == list(range(1, len(rows) + 1))
    runs = [await ended(process, run_id) for run_id in load.acknowledged.values()]
    assert Counter(run.state for run in runs) == {run_pb2.RUN_STATE_COMPLETED: len(load.acknowledged)}
    replies = server.run("SELECT run_id, COUNT(*) FROM transcript WHERE role = 'assistant' GROUP BY run_id", name)
    assert {str(run_id): count for run_id, count in replies} == dict.fromkeys(load.acknowledged.values(), 1)


async def test_a_host_killed_under_load_has_every_acknowledged_event_once(
    server: PostgresServer, tmp_path: Path
) -> None:
    name = server.new_database()
    async with host_on(server.tcp_url(name), tmp_path) as process:
        async with Load(process) as load:
            for _ in range(3):
                await load.more(30)
                await process.restart()
            await load.more(30)
        assert process.starts == 4
        await check(process, server, name, load)


async def test_a_database_server_killed_under_load_is_waited_for(server: PostgresServer, tmp_path: Path) -> None:
    name = server.new_database()
    async with host_on(server.tcp_url(name), tmp_path) as process:
        async with Load(process) as load:
            for _ in range(3):
                await load.more(30)
                await asyncio.to_thread(server.kill)
                server.start()
            await load.more(30)
        # The same process all the time: nobody had to start it again.
        assert process.starts == 1
        await check(process, server, name, load)


async def test_a_network_that_is_cut_between_host_and_database_costs_nothing(
    server: PostgresServer, tmp_path: Path
) -> None:
    name = server.new_database()
    with cutting_proxy(server.port) as proxy:
        url = server.tcp_url(name, port=proxy.port) + "?sslmode=disable"
        async with host_on(url, tmp_path) as process:
            async with Load(process) as load:
                for number in range(10):
                    await load.more(10)
                    if number % 2:
                        proxy.cut()
                    else:
                        proxy.cut_at(b"COMMIT", pass_it_on=number % 4 == 0)
                await load.more(10)
            assert process.starts == 1
            await check(process, server, name, load)


async def test_the_password_stands_in_no_log_and_no_argument(server: PostgresServer, tmp_path: Path) -> None:
    name = server.new_database()
    async with host_on(server.tcp_url(name), tmp_path) as process:
        async with Load(process) as load:
            await load.more(5)
        await asyncio.to_thread(server.kill)
        async with process.client() as host:
            with pytest.raises(PortwayError) as refused:
                await submit(host, "text", "key", "chat")
        server.start()
        said = process.log() + str(refused.value) + process.command_line()
        for secret in ("p%40ss", "p@ss", "w:rd"):
            assert secret not in said
        assert process.log()
