"""The only writer of a run's ledger during one attempt: numbers events, commits them in groups, then tells watchers.

Numbers are counted here and stored with each event; a database that disagrees refuses the write, because then another
attempt has taken over. Units are handed to the writer without waiting: it works in order, so a later write of the
attempt is never there without the earlier ones.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from portway.rpc.cursor import Cursor, CursorCodec
from portway.rpc.errors import PortwayError, Reason, Stale, WrongState
from portway.server.runs.attempts import check_fence
from portway.server.runs.feed import Published, RunFeed
from portway.server.runs.ledger import append_ledger
from portway.server.runs.masking import mask_message
from portway.server.runs.types import Fence, LedgerEntry
from portway.server.storage_engine.clock import now
from portway.server.storage_engine.transaction import Transaction
from portway.server.storage_engine.writer import Writer
from portway.v1 import run_pb2

IN_FLIGHT_BYTES = 4 * 1024 * 1024
CURSOR_EPOCH = 1

_FENCED = (Reason.ATTEMPT_SUPERSEDED, Reason.RUN_FINISHED)

Work = Callable[[Transaction], Any]
Then = Callable[[Any], None]


def run_stream(workspace_id: str, run_id: str) -> str:
    """The name of a run's ledger in cursors."""
    return f"run/{workspace_id}/{run_id}"


@dataclass(slots=True)
class _Group:
    """What goes into one unit."""

    entries: list[LedgerEntry] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    before: list[Work] = field(default_factory=list)
    works: list[tuple[Work, Then | None]] = field(default_factory=list)
    size: int = 0


class Journal:
    """Made for one attempt. `fence` is the one that its writes are checked against."""

    def __init__(self, writer: Writer, feed: RunFeed, cursors: CursorCodec, fence: Fence, last_sequence: int) -> None:
        self._writer = writer
        self._feed = feed
        self._cursors = cursors
        self._stream = run_stream(fence.workspace_id, fence.run_id)
        self._fence = fence
        self._numbered = last_sequence
        self._handed = last_sequence
        self._group = _Group()
        self._in_flight = 0
        self._room = asyncio.Event()
        self._room.set()
        self._last: asyncio.Future[Any] | None = None
        self._writes = 0
        # What must not leave is replaced before anything is numbered, kept or shown.
        self.masks: Sequence[str] = ()
        self.failure: BaseException | None = None
        self.on_failure: Callable[[], None] = lambda: None
        # What goes along with a unit that is written anyway.
        self.rider: Callable[[], Work | None] = lambda: None

    @property
    def fence(self) -> Fence:
        return self._fence

    @property
    def attempt(self) -> int:
        return self._fence.attempt

    @property
    def last_sequence(self) -> int:
        """Of the newest event, committed or not."""
        return self._numbered

    @property
    def has_writes(self) -> bool:
        """Whether something beside events is not on disk yet."""
        return self._writes > 0

    @property
    def pending(self) -> bool:
        """Whether there is anything to flush."""
        return bool(self._group.entries or self._group.works)

    def append(self, kind: str, event: run_pb2.RunEvent, first: int = 0, last: int = 0) -> int:
        """Number an event and keep it for the next flush; answers its sequence."""
        if self.masks:
            mask_message(self.masks, event)
        self._numbered += 1
        event.run_id = self._fence.run_id
        event.attempt = self._fence.attempt
        event.sequence = self._numbered
        event.first_runner_sequence = first
        event.last_runner_sequence = last
        event.time.FromMicroseconds(now())
        event.cursor = self._cursors.write(self._stream, Cursor(CURSOR_EPOCH, self._numbered))
        payload = event.SerializeToString()
        group = self._group
        group.entries.append(LedgerEntry(kind, payload, first, last))
        group.published.append(Published(self._numbered, payload))
        group.size += len(payload)
        return self._numbered

    def before(self, work: Work) -> None:
        """Do this first in the next unit, before its fence is checked: it is what makes the fence hold."""
        self._group.before.append(work)

    def also(self, work: Work, then: Then | None = None) -> None:
        """Do this in the next unit, after its events; `then` gets what it returned, once that is on disk."""
        self._group.works.append((work, then))
        self._writes += 1

    def flush(self) -> "asyncio.Future[Any] | None":
        """Hand everything kept to the writer. The future is done when it is on disk and told; None: nothing was."""
        if not (self._group.entries or self._group.works or self._group.before):
            return self._last
        work = self.rider()
        if work is not None:
            self.also(work)
        group, self._group = self._group, _Group()
        fence, after = self._fence, self._handed

        def unit(tx: Transaction) -> list[Any]:
            for work in group.before:
                work(tx)
            if group.entries:
                append_ledger(tx, fence, after, group.entries)
            else:
                check_fence(tx, fence)
            return [work(tx) for work, _ in group.works]

        self._handed += len(group.entries)
        self._in_flight += group.size
        if self._in_flight > IN_FLIGHT_BYTES:
            self._room.clear()
        try:
            done = self._writer.submit(unit)
        except PortwayError as error:
            # The numbers are given out: without this unit nothing later fits, and the run is settled from its row.
            self._failed(error)
            return None
        done.add_done_callback(lambda future: self._committed(group, future))
        self._last = done
        return done

    async def room(self) -> None:
        """Wait while too much is on its way to the disk: whoever produces more has to be slower."""
        await self._room.wait()

    @property
    def superseded(self) -> bool:
        """Whether writes are refused because somebody else holds or has ended the run."""
        failure = self.failure
        return isinstance(failure, Stale | WrongState) and failure.reason in _FENCED

    async def settled(self) -> None:
        """Wait until everything handed over is on disk. Raises what kept it from there."""
        if self._last is not None and self.failure is None:
            await asyncio.shield(self._last)
        if self.failure is not None:
            raise self.failure

    def _failed(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self.on_failure()

    def _committed(self, group: _Group, future: "asyncio.Future[list[Any]]") -> None:
        self._in_flight -= group.size
        self._writes -= len(group.works)
        if self._in_flight <= IN_FLIGHT_BYTES:
            self._room.set()
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._failed(error)
            return
        if group.published:
            self._feed.commit(group.published)
        tell(group.works, future.result())


def tell(works: Sequence[tuple[Work, Then | None]], results: Sequence[Any]) -> None:
    """Give each follower what its work returned."""
    for (_, then), result in zip(works, results, strict=True):
        if then is not None:
            then(result)
