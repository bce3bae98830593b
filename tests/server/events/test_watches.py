"""Streams of events, runs and deliveries: exactly the rest after a cursor, typed gaps, and nobody wedges the others."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from portway.rpc.errors import InvalidInput
from portway.rpc.status import errors_by_meaning
from portway.server.events.watch import FAR_BEHIND
from portway.v1 import delivery_pb2, delivery_pb2_grpc, event_pb2, run_pb2, stream_pb2
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.hosting import Hosted, hosted, text_of
from tests.waiting import PATIENCE

READERS = 32


async def take(stream: Any, count: int) -> list[Any]:
    """The next messages of a stream."""
    found: list[Any] = []
    with errors_by_meaning():
        async with asyncio.timeout(PATIENCE):
            while len(found) < count:
                found.append(await stream.read())
    return found


async def events_until(stream: Any, count: int) -> list[event_pb2.EventSummary]:
    found: list[event_pb2.EventSummary] = []
    while len(found) < count:
        found.extend((await take(stream, 1))[0].events)
    return found


@pytest.fixture
async def deliveries(host: Hosted) -> AsyncIterator[Any]:
    yield delivery_pb2_grpc.DeliveryServiceStub(host.channel)


async def test_events_go_on_exactly_after_a_cursor(host: Hosted) -> None:
    accepted = [await host.submit(f"message {number}") for number in range(5)]
    page = await host.events.ListEvents(event_pb2.ListEventsRequest())
    listed = list(reversed(page.events))
    assert [one.event_id for one in listed] == [one.event_id for one in accepted]
    for place in range(5):
        stream = host.events.WatchEvents(event_pb2.WatchEventsRequest(after_cursor=listed[place].cursor))
        accepted.append(await host.submit("one more"))
        rest = await events_until(stream, len(accepted) - place - 1)
        assert [one.event_id for one in rest] == [one.event_id for one in accepted[place + 1 :]]
        stream.cancel()


async def test_filters_hold_and_a_far_watcher_gets_its_gap(host: Hosted) -> None:
    await host.submit("begin")
    cursor = (await host.events.ListEvents(event_pb2.ListEventsRequest())).events[0].cursor
    for number in range(3):
        last = await host.submit(f"{number}", chat="mine")
    tick = event_pb2.Event(type="acme.tick", source="acme")
    for _ in range(0, FAR_BEHIND, 100):
        await asyncio.gather(*(host.submit(tick) for _ in range(100)))
    request = event_pb2.WatchEventsRequest(after_cursor=cursor, conversation_id=last.conversation_id)
    found = await events_until(host.events.WatchEvents(request), 3)
    assert {one.conversation_id for one in found} == {last.conversation_id}
    request.overflow = stream_pb2.OVERFLOW_RESET
    [answer] = await take(host.events.WatchEvents(request), 1)
    assert (answer.gap.reason, answer.gap.missing_count) == (stream_pb2.GAP_REASON_OVERFLOW, FAR_BEHIND + 3)
    resumed = host.events.WatchEvents(event_pb2.WatchEventsRequest(after_cursor=answer.gap.resume_cursor))
    after = await host.submit("after")
    assert [one.event_id for one in await events_until(resumed, 1)] == [after.event_id]


@pytest.mark.parametrize("cursor", ["forged", "AAAA", "x" * 1000])
async def test_a_cursor_of_ones_own_making_is_refused(host: Hosted, deliveries: Any, cursor: str) -> None:
    run = await host.asked("hi")
    streams = [
        host.events.WatchEvents(event_pb2.WatchEventsRequest(after_cursor=cursor)),
        deliveries.WatchDeliveries(delivery_pb2.WatchDeliveriesRequest(after_cursor=cursor)),
        host.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run.run_id, after_cursor=cursor)),
    ]
    for stream in streams:
        with pytest.raises(InvalidInput):
            await take(stream, 1)


async def test_a_cursor_belongs_to_its_stream(host: Hosted, deliveries: Any) -> None:
    run = await host.asked("hi")
    other = await host.asked("ho", chat="other")
    foreign = (await host.events.ListEvents(event_pb2.ListEventsRequest())).events[0].cursor
    streams = [
        deliveries.WatchDeliveries(delivery_pb2.WatchDeliveriesRequest(after_cursor=foreign)),
        host.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run.run_id, after_cursor=other.cursor)),
        host.events.WatchEvents(event_pb2.WatchEventsRequest(after_cursor=run.cursor)),
    ]
    for stream in streams:
        with pytest.raises(InvalidInput):
            await take(stream, 1)


async def test_deliveries_begin_with_what_is_open_and_go_on_with_changes(tmp_path: Path, runtime: FakeRuntime) -> None:
    async with hosted(tmp_path, runtime) as host:
        await host.set_agent()
        stub = delivery_pb2_grpc.DeliveryServiceStub(host.channel)
        await host.asked("one", surface="telegram")
        stream = stub.WatchDeliveries(delivery_pb2.WatchDeliveriesRequest())
        [first] = await take(stream, 1)
        assert first.snapshot and len(first.deliveries) == 1
        delivery_id = first.deliveries[0].delivery_id
        await host.asked("two", surface="telegram")
        [second] = await take(stream, 1)
        assert not second.snapshot and second.deliveries[0].state == delivery_pb2.DELIVERY_STATE_PENDING
        await stub.DiscardDelivery(delivery_pb2.DiscardDeliveryRequest(delivery_id=delivery_id))
        [third] = await take(stream, 1)
        assert [(one.delivery_id, one.state) for one in third.deliveries] == [
            (delivery_id, delivery_pb2.DELIVERY_STATE_DISCARDED)
        ]
        again = stub.WatchDeliveries(delivery_pb2.WatchDeliveriesRequest(after_cursor=first.cursor))
        rest = [one for answer in await take(again, 1) for one in answer.deliveries]
        assert [one.delivery_id for one in rest] == [second.deliveries[0].delivery_id, delivery_id]
        cursor = third.cursor
    async with hosted(tmp_path, runtime) as host:
        stub = delivery_pb2_grpc.DeliveryServiceStub(host.channel)
        stream = stub.WatchDeliveries(delivery_pb2.WatchDeliveriesRequest(after_cursor=cursor))
        gap, snapshot = await take(stream, 2)
        assert gap.gap.reason == stream_pb2.GAP_REASON_EPOCH
        assert snapshot.snapshot and len(snapshot.deliveries) == 1


async def test_a_reader_that_stops_reading_holds_up_nobody(host: Hosted, runtime: FakeRuntime) -> None:
    go = asyncio.Event()
    script = runtime.script
    pieces = [f"{number:06d} " * 200 for number in range(600)]

    async def talk(run: FakeRun) -> None:
        await go.wait()
        for piece in pieces:
            await run.say(piece)
        await run.answer("".join(pieces)[:1000])

    runtime.script = talk
    accepted = await host.submit("tell me")
    request = run_pb2.WatchRunRequest(run_id=accepted.run_id)
    stuck = host.runs.WatchRun(request)
    await take(stuck, 1)
    readers = [asyncio.create_task(host.watch(accepted.run_id)) for _ in range(READERS)]
    await take(host.runs.WatchRun(request), 1)
    go.set()
    for events in await asyncio.wait_for(asyncio.gather(*readers), PATIENCE):
        assert text_of(events) == "".join(pieces)
    runtime.script = script
    other = await host.asked("somebody else", chat="other")
    assert other.state == run_pb2.RUN_STATE_COMPLETED
    # It reads again, late, and gets the rest: joined, and whole.
    late: list[run_pb2.RunEvent] = []
    while (response := await stuck.read()) is not grpc.aio.EOF:
        late.extend(response.events)
    assert late[-1].WhichOneof("kind") == "run_completed"
