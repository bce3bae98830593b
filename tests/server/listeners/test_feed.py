"""How events reach listeners: in order, at least once, each listener in its own time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from portway.rpc.errors import InternalError, PortwayError, Reason, Unavailable
from portway.server.components.desk import ComponentDesk, Take
from portway.server.components.scope import Backing
from portway.server.listeners.deliver import Deliverer
from portway.server.listeners.feed import ListenerFeed, Pauses
from portway.server.listeners.offered import OfferedListeners
from portway.server.listeners.store import StoredListeners, disable_listener, enable_listener, read_listener
from portway.server.listeners.types import Beginning, Listener, Wanted
from portway.v1 import component_pb2 as pb
from portway.v1 import event_pb2
from tests.fakes.runtime_server import FakeRuntime, serve_fake_runtime
from tests.server.hosting import Hosted, a_message, hosted
from tests.waiting import until, until_told

PAUSES = Pauses(look=0.005, first=0.001, longest=0.002, away=0.001)
ONE, TWO = "tests/watcher/one", "tests/watcher/two"


class ScriptedDesk(ComponentDesk):
    """Listeners that see what they are shown, unless `fails` says otherwise."""

    def __init__(self) -> None:
        self.seen: dict[str, list[str]] = {ONE: [], TWO: []}
        self.missed: list[int] = []
        self.calls = 0
        self.held = asyncio.Event()
        self.held.set()
        self.fails: Callable[[list[str]], PortwayError | None] = lambda texts: None

    async def talk(
        self, start: pb.ComponentStart, seconds: float, take: Take, backing: Backing | None = None
    ) -> pb.ComponentResult:
        self.calls += 1
        assert start.caller.workspace_id == "default" and not backing
        texts = [event.input.text for event in start.observe_events.events]
        assert 0 < len(texts) <= 64
        if start.component_id == TWO:
            await self.held.wait()
        if (error := self.fails(texts)) is not None:
            raise error
        self.seen[start.component_id] += texts
        self.missed.append(start.observe_events.missed_count)
        return pb.ComponentResult(done=pb.OperationDone(count=len(texts)))


class Desk:
    """A host with listeners."""

    def __init__(self, host: Hosted, feed: ListenerFeed, scripted: ScriptedDesk) -> None:
        self.host = host
        self.feed = feed
        self.scripted = scripted
        self._count = 0

    async def say(self, *texts: str) -> None:
        for text in texts:
            self._count += 1
            request = event_pb2.SubmitEventRequest(event=a_message(text), idempotency_key=f"k{self._count}")
            await self.host.events.SubmitEvent(request)

    async def enable(self, listener_id: str, beginning: Beginning = Beginning.NOW) -> Listener:
        writer = self.host.parts.stores.database.writer
        listener: Listener = await writer.run(lambda tx: enable_listener(tx, "default", listener_id, beginning))
        return listener

    async def now(self, listener_id: str = ONE) -> Listener:
        reader = self.host.parts.stores.database.reader
        listener: Listener = await reader.run(lambda tx: read_listener(tx, "default", listener_id))
        return listener


@asynccontextmanager
async def watched(folder: Path, wanted: dict[str, Wanted]) -> AsyncIterator[Desk]:
    async with serve_fake_runtime(FakeRuntime()) as runtime, hosted(folder, runtime) as host:
        stores = host.parts.stores
        scripted, offered = ScriptedDesk(), OfferedListeners(host.parts.runtime)
        offered.wanted = wanted
        stored = StoredListeners(stores.database.reader)
        deliverer = Deliverer(stores.database.writer, stores.events, scripted)
        feed = ListenerFeed(stores.database.writer, stored, offered, deliverer, PAUSES)
        # The host's own feed knows none of these listeners; it only says that they are away.
        running = asyncio.ensure_future(feed.run())
        try:
            yield Desk(host, feed, scripted)
        finally:
            running.cancel()
            await asyncio.wait([running])


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    everything = {ONE: Wanted(("message.*",), 5.0), TWO: Wanted(("*",), 5.0)}
    async with watched(tmp_path, everything) as serving:
        yield serving


async def test_events_are_shown_in_order_from_where_a_listener_begins(desk: Desk) -> None:
    await desk.say("before")
    await desk.enable(ONE)
    await desk.enable(TWO, Beginning.OLDEST)
    await desk.say(*(str(number) for number in range(150)))
    wanted = [str(number) for number in range(150)]
    await until(lambda: len(desk.scripted.seen[ONE]) >= 150 and len(desk.scripted.seen[TWO]) >= 151)
    assert desk.scripted.seen == {ONE: wanted, TWO: ["before", *wanted]}
    assert set(desk.scripted.missed) == {0}


async def test_a_slow_listener_holds_up_nobody_and_is_behind(desk: Desk) -> None:
    await desk.enable(ONE)
    await desk.enable(TWO)
    desk.scripted.held.clear()
    await desk.say("a", "b")
    await until(lambda: desk.scripted.seen[ONE] == ["a", "b"])
    lags = {name: lag for name, lag, _ in await StoredListeners(desk.host.parts.stores.database.reader).lags()}
    assert lags[TWO] >= 1 and not desk.scripted.seen[TWO]
    desk.scripted.held.set()
    await until(lambda: desk.scripted.seen[TWO] == ["a", "b"])


async def test_a_failing_listener_is_shown_the_same_again(desk: Desk) -> None:
    left = [InternalError("no"), Unavailable("gone", reason=Reason.RUNNER_CRASHED), InternalError("no")]
    desk.scripted.fails = lambda texts: left.pop() if left else None
    await desk.enable(ONE)
    await desk.say("a", "b")
    await until(lambda: desk.scripted.seen[ONE][-1:] == ["b"])
    assert desk.scripted.seen[ONE] == ["a", "b"]
    assert (await desk.now()).missed_count == 0


async def test_what_a_listener_cannot_bear_is_left_out_alone_and_told(desk: Desk) -> None:
    desk.scripted.fails = lambda texts: InternalError("cannot") if "poison" in texts else None
    await desk.say(*(str(number) for number in range(20)), "poison", *(str(number) for number in range(20, 40)))
    await desk.enable(ONE, Beginning.OLDEST)
    await until(lambda: len(desk.scripted.seen[ONE]) == 40)
    assert desk.scripted.seen[ONE] == [str(number) for number in range(40)]
    assert sum(desk.scripted.missed) == 1

    async def is_counted() -> bool:
        listener = await desk.now()
        return (listener.missed_count, listener.delivered_count) == (1, 40)

    # The cursor moves on behind the listener.
    await until_told(is_counted)


async def test_a_plugin_that_is_away_loses_nothing(desk: Desk) -> None:
    away = Unavailable("the runtime does not answer", reason=Reason.RUNNER_UNAVAILABLE)
    desk.scripted.fails = lambda texts: away
    await desk.enable(ONE)
    await desk.say("a")
    await until(lambda: desk.scripted.calls > 20)
    assert (await desk.now()).missed_count == 0
    desk.scripted.fails = lambda texts: None
    await until(lambda: desk.scripted.seen[ONE] == ["a"])


async def test_a_disabled_listener_sees_no_more_and_goes_on_where_it_was(desk: Desk) -> None:
    writer = desk.host.parts.stores.database.writer
    await desk.enable(TWO)
    desk.scripted.held.clear()
    await desk.say("a")
    await until(lambda: desk.scripted.calls == 1)
    await writer.run(lambda tx: disable_listener(tx, "default", TWO))
    desk.feed.stop("default", TWO)
    desk.scripted.held.set()
    await desk.say("b")
    await desk.enable(ONE, Beginning.OLDEST)
    await until(lambda: desk.scripted.seen[ONE] == ["a", "b"])
    assert desk.scripted.seen[TWO] == []
    await desk.enable(TWO, Beginning.RESUME)
    await until(lambda: desk.scripted.seen[TWO] == ["a", "b"])


async def test_only_what_its_manifest_asks_for_is_shown(tmp_path: Path) -> None:
    wanted = {
        ONE: Wanted(("message.*",), 5.0, launcher_types=("group",)),
        TWO: Wanted(("message.received",), 5.0, launcher_types=("person",)),
    }
    async with watched(tmp_path, wanted) as desk:
        await desk.enable(ONE)
        await desk.enable(TWO)
        await desk.say("a")
        await until(lambda: desk.scripted.seen[TWO] == ["a"])

        async def is_past() -> bool:
            return (await desk.now(ONE)).sequence == (await desk.now(TWO)).sequence

        await until_told(is_past)
        assert desk.scripted.seen[ONE] == []
