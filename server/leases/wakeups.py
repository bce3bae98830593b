"""Waking those who wait for something in the database, in this process and in others.

A wake-up says "look again", nothing more: what is to be seen stands in the database. One may get lost (a server that
restarts, a network that breaks), so whoever waits also looks after a while.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Protocol

from portway.rpc.errors import InvalidInput
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.writer import Writer

TOPIC_BYTES = 1_000


class Subscription:
    """Wake-ups on one topic since this was made."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def wake(self) -> None:
        self._event.set()

    async def wait(self, seconds: float) -> bool:
        """Return when there was a wake-up since the last wait, or after so many seconds (False): look in both cases."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Wakeups(Protocol):
    """Topics are names from the code and ids, at most TOPIC_BYTES long."""

    async def wake(self, topic: str) -> None:
        """Wake everybody who waits on the topic. Call it after the commit of what they shall see."""

    def subscription(self, topic: str) -> AbstractContextManager[Subscription]:
        """Subscribe first, then look, then wait; so that nothing falls between."""


class LocalWakeups:
    """Within one process."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[Subscription]] = defaultdict(set)

    async def wake(self, topic: str) -> None:
        self.heard(_checked(topic))

    @contextmanager
    def subscription(self, topic: str) -> Iterator[Subscription]:
        subscription = Subscription()
        self._waiting[_checked(topic)].add(subscription)
        try:
            yield subscription
        finally:
            self._waiting[topic].discard(subscription)
            if not self._waiting[topic]:
                del self._waiting[topic]

    def heard(self, topic: str) -> None:
        """Somebody, here or elsewhere, woke the topic. Runs in the loop."""
        for subscription in self._waiting.get(topic, ()):
            subscription.wake()

    def missed(self) -> None:
        """Anybody may have been woken."""
        for topic in list(self._waiting):
            self.heard(topic)


class SharedWakeups(LocalWakeups):
    """Between all processes on one database server: what this one wakes comes back to it as to the others."""

    def __init__(self, writer: Writer, announce: str) -> None:
        super().__init__()
        self._writer = writer
        self._announce = announce

    async def wake(self, topic: str) -> None:
        params = {"topic": _checked(topic)}
        await self._writer.run(lambda tx: tx.all(self._announce, params))


@asynccontextmanager
async def open_wakeups(database: Database) -> AsyncIterator[Wakeups]:
    """Those of the database: shared where it is a server, local where one process owns it."""
    if database.listen is None:
        yield LocalWakeups()
        return
    loop = asyncio.get_running_loop()
    wakeups = SharedWakeups(database.writer, database.listen.announce)
    listening = database.listen.begin(
        lambda topic: loop.call_soon_threadsafe(wakeups.heard, topic),
        lambda: loop.call_soon_threadsafe(wakeups.missed),
    )
    try:
        yield wakeups
    finally:
        await asyncio.to_thread(listening.close)


def _checked(topic: str) -> str:
    if not topic or len(topic.encode()) > TOPIC_BYTES:
        raise InvalidInput.field("topic", f"has between 1 and {TOPIC_BYTES} bytes")
    return topic
