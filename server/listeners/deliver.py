"""Brings one listener forward: reads the log, shows it what it wants, and moves it on once it has seen that."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from portway.rpc.errors import NotFound, PortwayError, Reason
from portway.server.audit.store import append_audit
from portway.server.audit.types import NewAuditRecord
from portway.server.components.desk import ComponentDesk
from portway.server.events.store import EventLog
from portway.server.events.types import Event
from portway.server.events.wire import facts_of
from portway.server.listeners.observed import observed
from portway.server.listeners.offered import KIND
from portway.server.listeners.store import advance_listener
from portway.server.listeners.types import Listener, Wanted
from portway.server.storage_engine.transaction import Transaction
from portway.server.storage_engine.writer import Writer
from portway.v1 import component_pb2, event_pb2

PAGE = 64
# Of events in one call; one that is larger is shown alone.
BATCH_BYTES = 1024 * 1024
# An event that is larger cannot be shown.
MAX_EVENT_BYTES = 3 * 1024 * 1024
GRACE_SECONDS = 5.0
# With these nothing was shown: the plugin or its runtime is away, or busy.
_AWAY = (Reason.RUNNER_UNAVAILABLE, Reason.UNREACHABLE, Reason.SHUTTING_DOWN, Reason.STALE_HOST, Reason.OVERLOADED)


class Away(Exception):
    """The listener cannot be reached for now; that is no failure of its own."""


class Failed(Exception):
    """The listener has not seen what it was shown; `error` says why."""

    def __init__(self, error: PortwayError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that a listener wants, and the number that it has come to with them. `gap`: events that expired before."""

    shown: Sequence[component_pb2.ObservedEvent]
    last: int
    gap: int


class Deliverer:
    """Stateless: how far a listener is stands in the database."""

    def __init__(self, writer: Writer, log: EventLog, desk: ComponentDesk) -> None:
        self._writer = writer
        self._log = log
        self._desk = desk

    async def next_batch(self, listener: Listener, wanted: Wanted, most: int) -> Batch | None:
        """What comes next, at most `most` events; None where the log has nothing more."""
        page = await self._log.follow(listener.workspace_id, listener.sequence, PAGE)
        if not page:
            return None
        gap = max(0, page[0].sequence - listener.sequence - 1)
        shown: list[component_pb2.ObservedEvent] = []
        size, last = 0, listener.sequence
        for event in page:
            one = _shown(event, wanted)
            if one is not None:
                size += one.ByteSize()
                if shown and (len(shown) >= most or size > BATCH_BYTES):
                    break
                shown.append(one)
            last = event.sequence
        return Batch(shown, last, gap)

    async def deliver(self, listener: Listener, wanted: Wanted, batch: Batch) -> Listener | None:
        """The listener after it has seen the batch; None where it was disabled meanwhile.

        Raises Away and Failed.
        """
        missed = listener.untold_count + batch.gap
        large = [one for one in batch.shown if one.ByteSize() > MAX_EVENT_BYTES]
        if large:
            return await self.skip(listener, batch, "it is larger than 3 MiB")
        if batch.shown:
            await self._show(listener, wanted, batch.shown, missed)
            missed = 0
        return await self._advance(listener, batch.last, delivered=len(batch.shown), missed=batch.gap, untold=missed)

    async def skip(self, listener: Listener, batch: Batch, why: str) -> Listener | None:
        """Goes past events that the listener failed on again and again; it is told how many with the next ones."""
        count = len(batch.shown)
        untold = listener.untold_count + batch.gap + count
        about = NewAuditRecord(
            workspace_id=listener.workspace_id,
            action="listener.skip",
            resource=f"listener {listener.listener_id}",
            allowed=False,
            reason="failed",
            role="component",
            subject=listener.listener_id,
            details=f"{', '.join(one.event.event_id for one in batch.shown)}: {why}"[:1_000],
        )
        missed = batch.gap + count
        return await self._advance(listener, batch.last, missed=missed, untold=untold, about=about)

    async def _show(
        self, listener: Listener, wanted: Wanted, events: Sequence[component_pb2.ObservedEvent], missed: int
    ) -> None:
        start = component_pb2.ComponentStart(
            kind=KIND,
            component_id=listener.listener_id,
            caller=component_pb2.ComponentCaller(workspace_id=listener.workspace_id),
            permissions=wanted.permissions,
            observe_events=component_pb2.ObserveEvents(events=events, missed_count=missed),
        )
        try:
            await self._desk.talk(start, wanted.timeout + GRACE_SECONDS, _said)
        except NotFound as error:
            if error.resource is not None and error.resource.type == KIND:
                raise Away(f"no plugin brings {listener.listener_id}") from error
            raise Failed(error) from error
        except PortwayError as error:
            if error.reason in _AWAY:
                raise Away(error.message) from error
            raise Failed(error) from error

    async def _advance(
        self,
        before: Listener,
        sequence: int,
        *,
        delivered: int = 0,
        missed: int = 0,
        untold: int = 0,
        about: NewAuditRecord | None = None,
    ) -> Listener | None:
        def unit(tx: Transaction) -> bool:
            moved = advance_listener(tx, before, sequence, delivered=delivered, missed=missed, untold=untold)
            if moved and about is not None:
                append_audit(tx, [about])
            return moved

        if not await self._writer.run(unit):
            return None
        return replace(
            before,
            sequence=sequence,
            delivered_count=before.delivered_count + delivered,
            missed_count=before.missed_count + missed,
            untold_count=untold,
            trouble="",
        )


def _shown(event: Event, wanted: Wanted) -> component_pb2.ObservedEvent | None:
    message = event_pb2.Event.FromString(event.payload)
    facts = facts_of(message, event.workspace_id)
    if not wanted.takes(event.type, event.source, facts.launcher_type):
        return None
    return observed(event, message)


async def _said(frame: component_pb2.ComponentOutputFrame) -> None:
    """A listener says nothing that anybody hears."""


def failure_text(error: PortwayError) -> str:
    return f"{type(error).__name__}: {error.message}"
