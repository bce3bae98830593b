"""Whoever stops reading, on whatever stream, holds up nobody and costs the host a bounded amount of memory."""

import asyncio
import os
from pathlib import Path
from typing import Any

from portway.rpc.channel import open_channel
from portway.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    conversation_pb2,
    conversation_pb2_grpc,
    delivery_pb2,
    delivery_pb2_grpc,
    event_pb2,
    run_pb2,
)
from tests.fakes.adapter_client import an_adapter
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.callers import make_token
from tests.server.hosting import Hosted
from tests.waiting import PATIENCE

READERS = 8
PIECE = "0123456789abcdef" * 4_096
PIECES = 192
# Said are 24 runs of 12 MiB, 288 MiB, three times over to streams that nobody reads. What is held does not follow that:
# a third of the words costs as much (about 165 MiB, with both ends of every stream in this one process).
GROWTH_BYTES = 256 * 1024 * 1024


def resident_bytes() -> int:
    """Of this process, in which the host runs."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def talk(run: FakeRun) -> None:
    for _ in range(PIECES):
        await run.say(PIECE)
    await run.answer("the end")


async def stuck_on_everything(host: Hosted, channel: Any, run_id: str) -> list[Any]:
    """Streams of every kind that are opened and never read."""
    message = conversation_pb2.SendMessageRequest(text="tell me")
    deliveries = delivery_pb2_grpc.DeliveryServiceStub(channel)
    audit = audit_pb2_grpc.AuditServiceStub(channel)
    conversations = conversation_pb2_grpc.ConversationServiceStub(channel)
    return [
        host.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run_id)),
        conversations.SendMessage(message),
        host.events.WatchEvents(event_pb2.WatchEventsRequest()),
        deliveries.WatchDeliveries(delivery_pb2.WatchDeliveriesRequest()),
        audit.WatchAudit(audit_pb2.WatchAuditRequest()),
    ]


async def test_memory_is_bounded_and_everybody_else_is_answered(served: Hosted, schema_runtime: FakeRuntime) -> None:
    token = (await make_token(served, "adapter")).secret
    quick = schema_runtime.script
    await served.asked("warm up")
    before = resident_bytes()
    schema_runtime.script = talk
    streams: list[Any] = []
    async with (
        open_channel(served.address, token=served.admin_token) as channel,
        an_adapter(served.address, token) as adapter,
    ):
        await adapter.hello(live_updates=True)
        accepted = []
        for number in range(READERS):
            # The adapter submits and reads nothing of what is said to it.
            await adapter.submit("tell me", key=f"a-{number}", chat=f"adapter-{number}")
            one = await served.submit("tell me", chat=f"chat-{number}", surface="telegram")
            streams += await stuck_on_everything(served, channel, one.run_id)
            accepted.append(one)
        for one in accepted:
            run = await asyncio.wait_for(served.ended(one.run_id), PATIENCE * 3)
            assert run.state == run_pb2.RUN_STATE_COMPLETED
        schema_runtime.script = quick
        other = await served.asked("somebody else", chat="other")
        assert other.state == run_pb2.RUN_STATE_COMPLETED
        grown = resident_bytes() - before
        print(f"{len(streams)} stuck streams: {grown / 1024 / 1024:.0f} MiB more")
        assert grown < GROWTH_BYTES
        for stream in streams:
            stream.cancel()
