"""Watchers that are too slow, that come late, and that leave."""

import asyncio

from portway.server.runs.feed import Feeds, Published, RunFeed
from portway.server.runs.watcher import BUFFER_BYTES, Overflow, Watcher
from portway.v1 import run_pb2
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.hosting import WORKSPACE, Hosted, text_of
from tests.waiting import until

PIECE = "x" * 60_000


async def floods(run: FakeRun) -> None:
    for number in range(60):
        await run.say(f"{number:04}{PIECE}")
    await run.answer("done")


async def test_a_watcher_that_does_not_read_holds_up_nobody_and_gets_everything_in_the_end(
    host: Hosted, runtime: FakeRuntime
) -> None:
    runtime.script = floods
    accepted = await host.submit()
    feeds: Feeds = host.parts.feeds
    async with feeds.watch(WORKSPACE, accepted.run_id) as slow:
        # It reads nothing while more than its buffer goes by.
        run = await host.ended(accepted.run_id)
        assert run.state == run_pb2.RUN_STATE_COMPLETED
        events: list[run_pb2.RunEvent] = []
        async for batch in slow:
            assert len(batch.payloads) <= 64
            events += [run_pb2.RunEvent.FromString(payload) for payload in batch.payloads]
    assert text_of(events) == "".join(f"{number:04}{PIECE}" for number in range(60))
    numbered = [event.sequence for event in events if event.sequence]
    assert numbered == list(range(1, run.last_sequence + 1))


async def test_a_watcher_that_wants_a_gap_gets_one_and_a_cursor_to_go_on(host: Hosted, runtime: FakeRuntime) -> None:
    runtime.script = floods
    accepted = await host.submit()
    feeds: Feeds = host.parts.feeds
    async with feeds.watch(WORKSPACE, accepted.run_id, overflow=Overflow.RESET) as slow:
        await host.ended(accepted.run_id)
        batches = [batch async for batch in slow]
    gaps = [batch.gap for batch in batches if batch.gap]
    assert gaps and gaps[0].missing > 0
    last = run_pb2.RunEvent.FromString(batches[-1].payloads[-1])
    assert last.WhichOneof("kind") == "run_completed"
    rest = await host.watch(accepted.run_id, gaps[0].resume_sequence)
    assert rest[0].sequence == gaps[0].resume_sequence + 1


async def test_watching_begins_before_the_run_does_and_ends_with_it(host: Hosted, runtime: FakeRuntime) -> None:
    release = asyncio.Event()

    async def waits(run: FakeRun) -> None:
        await release.wait()
        await run.answer("now")

    runtime.script = waits
    first = await host.submit("one", chat="same")
    second = await host.submit("two", chat="same")
    watching = asyncio.create_task(host.watch(second.run_id))
    await until(lambda: bool(runtime.runs))
    release.set()
    events = await watching
    assert [event.sequence for event in events if event.sequence] == [1, 2, 3]
    assert (await host.run(first.run_id)).state == run_pb2.RUN_STATE_COMPLETED


async def test_nothing_is_left_of_a_run_that_has_ended_and_is_not_watched(host: Hosted) -> None:
    run = await host.asked()
    await until(lambda: host.parts.dispatcher.active_count == 0)
    feeds: Feeds = host.parts.feeds
    async with feeds.watch(WORKSPACE, run.run_id) as watcher:
        assert [batch.last_sequence async for batch in watcher][-1] == run.last_sequence
    assert not feeds.open_count and len(host.parts.live) == 0
    owned = await host.runs.ListOwned(run_pb2.ListOwnedRequest(run_id=run.run_id))
    assert not owned.items
    assert not (await host.runs.ListOwned(run_pb2.ListOwnedRequest())).items


async def test_what_a_run_owns_is_listed_while_it_executes(host: Hosted, runtime: FakeRuntime) -> None:
    async def waits(run: FakeRun) -> None:
        await run.cancelled.wait()
        await run.answer("x")

    runtime.script = waits
    accepted = await host.submit("one", chat="same")
    queued = await host.submit("two", chat="same")
    await until(lambda: bool(runtime.runs))
    owned = await host.runs.ListOwned(run_pb2.ListOwnedRequest(run_id=accepted.run_id))
    assert [item.kind for item in owned.items] == ["run", "attempt", "token"]
    request = run_pb2.ListOwnedRequest(page_size=2)
    kinds: list[str] = []
    while True:
        page = await host.runs.ListOwned(request)
        kinds += [item.kind for item in page.items]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert sorted(kinds) == ["attempt", "run", "run", "token"]
    for each in (queued, accepted):
        await host.runs.CancelRun(run_pb2.CancelRunRequest(run_id=each.run_id))


class NoLedger:
    """Nothing was committed before the watcher came."""

    async def ledger(self, workspace_id: str, run_id: str, after: int, limit: int) -> list[object]:
        raise AssertionError("there is nothing to read")


async def test_a_full_buffer_is_emptied_and_never_grows_past_its_bound() -> None:
    feed = RunFeed("w", "run_1")
    feed.begin(0)
    watcher = Watcher(feed, NoLedger(), 0, False, Overflow.COALESCE)  # type: ignore[arg-type]
    feed.watchers.add(watcher)
    for _ in range(100):
        feed.hint(b"x" * 50_000, 0)
        assert watcher.held_bytes <= BUFFER_BYTES
    feed.commit([Published(1, b"the end")])
    feed.end()
    payloads = [payload async for batch in watcher for payload in batch.payloads]
    assert payloads[-1] == b"the end"
