"""Live fan-out of runs: what is committed and what is still provisional, to any number of watchers.

None of them holds up the run or another watcher.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from portway.rpc.errors import OutOfRange
from portway.server.runs.store import Ledgers, Runs
from portway.server.runs.watcher import Overflow, Watcher

RECENT_BYTES = 64 * 1024
HELD_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Published:
    """One event for watchers. `sequence` 0: provisional, not in the ledger."""

    sequence: int
    payload: bytes


class RunFeed:
    """One run that has not ended, or has watchers."""

    def __init__(self, workspace_id: str, run_id: str) -> None:
        self.workspace_id = workspace_id
        self.run_id = run_id
        self.committed = 0
        self.owned = False
        self.ended = False
        self.watchers: set[Watcher] = set()
        self.draft: Callable[[], Sequence[bytes]] = tuple
        self._recent: deque[Published] = deque()
        self._recent_bytes = 0
        self._held: deque[tuple[int, Published]] = deque()
        self._held_bytes = 0

    def begin(self, committed: int) -> None:
        """The run's owner takes over: from now on everything after `committed` passes through here."""
        self.committed = committed
        self.owned = True

    def commit(self, events: Sequence[Published]) -> None:
        """These are on disk."""
        self.committed = events[-1].sequence
        for event in events:
            self._recent.append(event)
            self._recent_bytes += len(event.payload)
        while self._recent_bytes > RECENT_BYTES:
            self._recent_bytes -= len(self._recent.popleft().payload)
        self._offer(events)
        self._release()

    def hint(self, payload: bytes, after: int) -> None:
        """Text that is being written, for after the event `after`: it never overtakes what was numbered before it.

        What is committed later replaces it, so text that would be held too long is dropped here.
        """
        if not self.watchers:
            return
        event = Published(0, payload)
        if after <= self.committed:
            self._offer((event,))
        elif self._held_bytes < HELD_BYTES:
            self._held.append((after, event))
            self._held_bytes += len(payload)

    def end(self) -> None:
        """The terminal event was committed."""
        self.ended = True
        for watcher in self.watchers:
            watcher.wake()

    def _offer(self, events: Sequence[Published]) -> None:
        for watcher in self.watchers:
            watcher.offer(events)

    def _release(self) -> None:
        released: list[Published] = []
        while self._held and self._held[0][0] <= self.committed:
            event = self._held.popleft()[1]
            self._held_bytes -= len(event.payload)
            released.append(event)
        if released:
            self._offer(released)

    def recent_after(self, sequence: int) -> list[Published] | None:
        """Committed events after `sequence` where all of them are still in memory."""
        if not self._recent or self._recent[0].sequence > sequence + 1:
            return None
        return [event for event in self._recent if event.sequence > sequence]


class Feeds:
    """Feeds by run. One exists while the run executes or somebody watches it."""

    def __init__(self, runs: Runs, ledgers: Ledgers) -> None:
        self._runs = runs
        self._ledgers = ledgers
        self._feeds: dict[tuple[str, str], RunFeed] = {}

    @property
    def open_count(self) -> int:
        """Runs that execute or are watched."""
        return len(self._feeds)

    def own(self, workspace_id: str, run_id: str, committed: int) -> RunFeed:
        """For who executes the run. `release` it when the terminal event is committed or the run is given up."""
        feed = self._open(workspace_id, run_id)
        feed.begin(committed)
        return feed

    def release(self, feed: RunFeed) -> None:
        feed.owned = False
        self._drop_unused(feed)

    @asynccontextmanager
    async def watch(
        self,
        workspace_id: str,
        run_id: str,
        after_sequence: int = 0,
        *,
        committed_only: bool = False,
        overflow: Overflow = Overflow.COALESCE,
    ) -> AsyncIterator[Watcher]:
        """Events after `after_sequence`, then live until the terminal one. Raises NotFound, OutOfRange."""
        feed = self._open(workspace_id, run_id)
        watcher = Watcher(feed, self._ledgers, after_sequence, committed_only, overflow)
        # Registered before anything is awaited: from here on nothing is missed, and what was before is in the ledger.
        feed.watchers.add(watcher)
        try:
            last = feed.committed
            if not feed.owned:
                run = await self._runs.run(workspace_id, run_id)
                last = max(feed.committed, run.last_sequence)
                watcher.known(last, ended=run.state.final)
            if after_sequence > last:
                raise OutOfRange(
                    f"The run {run_id} has no event {after_sequence} yet; its last is {last}. Watch after one of them."
                )
            yield watcher
        finally:
            feed.watchers.discard(watcher)
            self._drop_unused(feed)

    def _open(self, workspace_id: str, run_id: str) -> RunFeed:
        feed = self._feeds.get((workspace_id, run_id))
        if feed is None:
            feed = self._feeds[(workspace_id, run_id)] = RunFeed(workspace_id, run_id)
        return feed

    def _drop_unused(self, feed: RunFeed) -> None:
        key = (feed.workspace_id, feed.run_id)
        if not feed.owned and not feed.watchers and self._feeds.get(key) is feed:
            del self._feeds[key]
