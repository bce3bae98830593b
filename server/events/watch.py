"""Following the events of a workspace as they are accepted."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum

from portway.server.events.store import EventLog
from portway.server.events.types import Event, EventFilter

BATCH = 64
FAR_BEHIND = 1_000
# Events are accepted at many places; the end of the log is asked for.
LOOK_EVERY = 0.25


class GapKind(StrEnum):
    """Why events will not come."""

    EXPIRED = "expired"
    OVERFLOW = "overflow"
    EPOCH = "epoch"


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Events in order, or a gap that ends at `resume`."""

    events: tuple[Event, ...] = ()
    gap: GapKind | None = None
    resume: int = 0
    missing: int = 0


async def watch_events(
    log: EventLog,
    workspace_id: str,
    which: EventFilter,
    after: int | None,
    draining: asyncio.Event,
    *,
    reset: bool = False,
) -> AsyncGenerator[EventBatch, None]:
    """Events after a sequence (None: only new ones), then new ones. Nothing is kept for a watcher: one that is slow
    is further behind in the log, and that is all. Ends when the host stops."""
    latest = await log.latest_sequence(workspace_id)
    seen = latest if after is None else after
    if seen > latest:
        # The host was restored from a backup of before: what the cursor followed is not there any more.
        yield EventBatch(gap=GapKind.EPOCH, resume=latest)
        seen = latest
    while not draining.is_set():
        latest = await log.latest_sequence(workspace_id)
        if reset and latest - seen > FAR_BEHIND:
            yield EventBatch(gap=GapKind.OVERFLOW, resume=latest, missing=latest - seen)
            seen = latest
        page = await log.follow(workspace_id, seen, BATCH) if latest > seen else []
        if not page:
            await _pause(draining)
            continue
        if page[0].sequence > seen + 1:
            before = page[0].sequence - 1
            yield EventBatch(gap=GapKind.EXPIRED, resume=before, missing=before - seen)
        seen = page[-1].sequence
        found = tuple(event for event in page if _fits(event, which))
        if found:
            yield EventBatch(found)


def _fits(event: Event, which: EventFilter) -> bool:
    if which.conversation_id and event.conversation_id != which.conversation_id:
        return False
    return not which.types or event.type in which.types


async def _pause(draining: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(LOOK_EVERY):
            await draining.wait()
    except TimeoutError:
        return
