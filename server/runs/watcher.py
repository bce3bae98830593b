"""One watcher of a run: a bounded buffer of live events, and the ledger for whatever did not fit or was before."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self

from portway.server.runs.frames import field, repeated
from portway.server.runs.store import Ledgers
from portway.server.runs.types import LedgerEvent

PAGE = 64
BATCH_BYTES = 256 * 1024
BUFFER_BYTES = 1024 * 1024
BUFFER_EVENTS = 4096

_EVENTS_FIELD = 1
_GAP_FIELD = 2


class Overflow(StrEnum):
    """What a watcher gets that was too slow: the ledger's joined text, or a gap."""

    COALESCE = "coalesce"
    RESET = "reset"


class Event(Protocol):
    @property
    def sequence(self) -> int: ...
    @property
    def payload(self) -> bytes: ...


class Source(Protocol):
    """The feed that a watcher belongs to."""

    workspace_id: str
    run_id: str
    committed: int
    owned: bool
    ended: bool

    def recent_after(self, sequence: int) -> Sequence[Event] | None: ...
    def draft(self) -> Sequence[bytes]: ...


@dataclass(frozen=True, slots=True)
class Gap:
    """Events that a watcher does not get: it was too slow and wanted no more, or retention dropped them (`expired`)."""

    resume_sequence: int
    missing: int
    expired: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Serialized RunEvents in order, or a gap. `last_sequence` is that of the last committed event so far."""

    payloads: tuple[bytes, ...]
    last_sequence: int
    gap: Gap | None = None

    def watch_response(self, gap_message: bytes = b"") -> bytes:
        """A whole serialized WatchRunResponse."""
        return repeated(_EVENTS_FIELD, self.payloads) + (field(_GAP_FIELD, gap_message) if gap_message else b"")


class Watcher:
    """Iterate it. Invariant: the buffer holds every event after `_complete_from`; older ones come from the ledger."""

    def __init__(
        self, source: Source, ledgers: Ledgers, after_sequence: int, committed_only: bool, overflow: Overflow
    ) -> None:
        self._source = source
        self._ledgers = ledgers
        self._sent = after_sequence
        self._committed_only = committed_only
        self._overflow = overflow
        self._complete_from = source.committed
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._ended = False
        self._missing = 0
        self._draft: Sequence[bytes] = () if committed_only else source.draft()

    def known(self, last: int, *, ended: bool) -> None:
        """What the database said about a run that nobody here executes."""
        self._complete_from = max(self._complete_from, last)
        self._ended = ended

    @property
    def held_bytes(self) -> int:
        """Of events that wait to be read."""
        return self._bytes

    def offer(self, events: Sequence[Event]) -> None:
        """Called by the feed; never waits."""
        for event in events:
            if event.sequence == 0 and self._committed_only:
                continue
            self._events.append(event)
            self._bytes += len(event.payload)
        if self._bytes > BUFFER_BYTES or len(self._events) > BUFFER_EVENTS:
            self._overflowed()
        self._wake.set()

    def wake(self) -> None:
        self._wake.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        while True:
            if self._missing:
                gap, self._missing = Gap(self._sent, self._missing), 0
                return Batch((), self._sent, gap)
            if self._sent < self._complete_from:
                return await self._older()
            if self._draft:
                payloads, self._draft = tuple(self._draft), ()
                return Batch(payloads, self._sent)
            batch = self._newer()
            if batch is not None:
                return batch
            if self._ended or (self._source.ended and self._sent >= self._source.committed):
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()

    def _overflowed(self) -> None:
        self._events.clear()
        self._bytes = 0
        # Also the text that is not committed yet: it will come, joined, with the event that commits it.
        self._draft = ()
        committed = self._source.committed
        if self._overflow is Overflow.RESET:
            self._missing += max(0, committed - self._sent)
            self._sent = committed
        self._complete_from = committed

    async def _older(self) -> Batch:
        recent = self._source.recent_after(self._sent)
        events: Sequence[Event | LedgerEvent]
        if recent is not None:
            events = recent[:PAGE]
        else:
            events = await self._ledgers.ledger(self._source.workspace_id, self._source.run_id, self._sent, PAGE)
        first = events[0].sequence if events else self._complete_from + 1
        if first > self._sent + 1:
            # Nothing where something was promised: retention dropped it. Whoever watches is told, then goes on.
            missing, self._sent = first - 1 - self._sent, first - 1
            return Batch((), self._sent, Gap(self._sent, missing, expired=True))
        kept: list[bytes] = []
        size = 0
        for event in events:
            if kept and size + len(event.payload) > BATCH_BYTES:
                break
            kept.append(event.payload)
            size += len(event.payload)
            self._sent = event.sequence
        return Batch(tuple(kept), self._sent)

    def _newer(self) -> Batch | None:
        kept: list[bytes] = []
        size = 0
        while self._events and len(kept) < PAGE:
            event = self._events[0]
            if kept and size + len(event.payload) > BATCH_BYTES:
                break
            self._events.popleft()
            self._bytes -= len(event.payload)
            if event.sequence:
                if event.sequence <= self._sent:
                    continue
                self._sent = event.sequence
            kept.append(event.payload)
            size += len(event.payload)
        return Batch(tuple(kept), self._sent) if kept else None
