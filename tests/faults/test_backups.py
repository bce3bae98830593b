"""A backup of a host that is at work, restored elsewhere, where its conversation goes on."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from portway.clients.host import Portway
from portway.rpc.channel import PortwayChannel
from portway.v1 import artifact_pb2, delivery_pb2, run_pb2
from tests.asking import ask
from tests.fakes.runtime_server import FakeRuntime, serve_fake_runtime
from tests.faults.host_process import SECONDS, HostProcess, ended, said, serving, submit
from tests.server.archive.tools import rows, tool

ROUNDS = 3


@asynccontextmanager
async def at_work(host: Portway, channel: PortwayChannel) -> AsyncIterator[list[str]]:
    """Messages and files without end, files come and go; answers the ids of runs that were accepted."""
    accepted: list[str] = []

    tasks = [
        asyncio.create_task(work)
        for work in (_talk(host, "one", accepted), _talk(host, "two", accepted), _upload(host, channel))
    ]
    try:
        async with asyncio.timeout(SECONDS):
            while len(accepted) < 20 and not any(task.done() for task in tasks):  # noqa: ASYNC110 - the host answers them
                await asyncio.sleep(0.01)
        yield accepted
    finally:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, asyncio.CancelledError), outcome


async def _talk(host: Portway, chat: str, accepted: list[str]) -> None:
    for number in itertools.count():
        accepted.append((await submit(host, f"message {number}", f"{chat}-{number}", chat)).run_id)


async def _upload(host: Portway, channel: PortwayChannel) -> None:
    for number in itertools.count():
        made = await host.artifacts.create(os.urandom(20_000), name="file.bin")
        if number % 2:
            await ask(channel, artifact_pb2.DeleteArtifactRequest(artifact_id=made.ref.artifact_id))


async def test_a_backup_under_load_is_whole_and_its_conversation_goes_on_elsewhere(tmp_path: Path) -> None:
    for name in ("old", *(f"new-{number}" for number in range(ROUNDS))):
        (tmp_path / name).mkdir()
    async with serve_fake_runtime(FakeRuntime()) as runtime:
        async with serving(HostProcess(tmp_path / "old", runtime)) as old, old.client() as host:
            first = await submit(host, "hello", "first", "quiet")
            assert (await ended(old, first.run_id)).state == run_pb2.RUN_STATE_COMPLETED
            before = await said(old, first.conversation_id)
            async with old.channel() as channel, at_work(host, channel):
                for number in range(ROUNDS):
                    made = await tool(
                        *("backup", "--host-data", tmp_path / "old/data", tmp_path / f"{number}.zip"), "--include-keys"
                    )
                    assert (made.code, "is missing" in made.err) == (0, False), made
        for number in range(ROUNDS):
            folder = tmp_path / f"new-{number}"
            done = await tool("restore", "--host-data", folder / "data", tmp_path / f"{number}.zip")
            assert done.code == 0, done.err
            assert (await tool("check", "--host-data", folder / "data")).code == 0
            async with serving(HostProcess(folder, runtime)) as new, new.client() as host:
                assert (await said(new, first.conversation_id))[: len(before)] == before
                # What was acknowledged before the backup is known, and goes on in the same conversation.
                again = await submit(host, "hello", "first", "quiet")
                assert (again.duplicate, again.event_id) == (True, first.event_id)
                following = await submit(host, "and now?", f"after-{number}", "quiet")
                assert following.conversation_id == first.conversation_id
                assert (await ended(new, following.run_id)).state == run_pb2.RUN_STATE_COMPLETED
                waiting = await host.deliveries.ListDeliveries(
                    delivery_pb2.ListDeliveriesRequest(states=[delivery_pb2.DELIVERY_STATE_PENDING])
                )
                assert list(waiting.deliveries) == []
            still_open = "SELECT COUNT(*) FROM runs WHERE state IN ('queued', 'running', 'waiting')"
            assert await rows(folder / "data", still_open) == [(0,)]
