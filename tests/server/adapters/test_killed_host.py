"""The host is a process that is really killed, and started again on the same data."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from portway.v1 import adapter_pb2
from tests.fakes.adapter_client import AdapterClient, an_adapter
from tests.fakes.engine import text_of

ROOT = Path(__file__).parents[3]
START_SECONDS = 120.0


@dataclass(slots=True)
class HostProcess:
    process: asyncio.subprocess.Process
    address: str
    token: str

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@asynccontextmanager
async def a_host_process(folder: Path) -> AsyncIterator[HostProcess]:
    ready = folder / "ready.json"
    ready.unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fakes.adapter_host", str(folder), str(ready), cwd=ROOT
    )
    try:
        async with asyncio.timeout(START_SECONDS):
            while not ready.exists():
                assert process.returncode is None, "the host ended before it was ready"
                await asyncio.sleep(0.01)
        said = json.loads(ready.read_text())
        yield HostProcess(process, said["address"], said["token"])
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def connected(host: HostProcess, **hello: object) -> AsyncIterator[AdapterClient]:
    async with an_adapter(host.address, host.token) as adapter:
        await adapter.hello(**hello)  # type: ignore[arg-type]  # fields of the hello
        yield adapter


async def test_killed_between_delivery_and_result_it_sends_again_under_the_same_id(tmp_path: Path) -> None:
    async with a_host_process(tmp_path) as host, connected(host) as adapter:
        await adapter.submit("hello", key="1")
        first = await adapter.next("delivery")
        await host.kill()
    async with a_host_process(tmp_path) as host, connected(host) as adapter:
        again = await adapter.next("delivery")
        assert again.delivery_id == first.delivery_id
        assert again.payload == first.payload


async def test_killed_before_the_result_was_read_it_takes_it_with_the_next_hello(tmp_path: Path) -> None:
    async with a_host_process(tmp_path) as host, connected(host) as adapter:
        await adapter.submit("hello", key="1")
        first = await adapter.next("delivery")
        await host.kill()
    result = adapter_pb2.DeliveryResult(
        delivery_id=first.delivery_id, outcome=adapter_pb2.DELIVERY_OUTCOME_ACKNOWLEDGED
    )
    async with a_host_process(tmp_path) as host, connected(host, recent_results=[result]) as adapter:
        await adapter.submit("bye", key="2")
        assert text_of(await adapter.next("delivery")) == "echo: bye"


async def test_what_was_acknowledged_before_the_kill_is_there_after_it_exactly_once(tmp_path: Path) -> None:
    async with a_host_process(tmp_path) as host, connected(host) as adapter:
        for number in range(50):
            await adapter.submit(str(number), key=str(number), chat=f"chat-{number}")
        acked = {(await adapter.next("ack")).ref for _ in range(20)}
        await host.kill()
    assert len(acked) == 20
    async with a_host_process(tmp_path) as host, connected(host, max_unacknowledged=100) as adapter:
        refs = {
            await adapter.submit(str(number), key=str(number), chat=f"chat-{number}"): number for number in range(50)
        }
        acks = [await adapter.next("ack") for _ in range(50)]
        # What was acknowledged is a duplicate now; the rest was on disk before the kill, or not at all.
        duplicates = {refs[ack.ref] + 1 for ack in acks if ack.accepted.duplicate}
        assert acked <= duplicates
        texts = []
        for _ in range(50):
            delivery = await adapter.next("delivery")
            texts.append(text_of(delivery))
            await adapter.tell(delivery.delivery_id)
        assert sorted(texts) == sorted(f"echo: {number}" for number in range(50))
