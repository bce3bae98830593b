"""Spans of events, runs and deliveries. Their ids follow from the ids of what they are of, so that the attempt after a
kill finds its place in the same tree, without a row for it."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Protocol

from portway.rpc.errors import PortwayError
from portway.rpc.telemetry import Trace
from portway.rpc.traces.export import unix_nanoseconds
from portway.rpc.traces.types import Link, Recorder, Span, Value, span_id_of
from portway.server.deliveries.types import Delivery
from portway.server.events.submit import Submit
from portway.server.events.types import Accepted
from portway.server.runs.pending import QueuedRun
from portway.server.runs.types import Run

REMEMBERED = 10_000
LOOKUPS = 1_000
_MICRO = 1_000
_MILLI = 1_000_000
_LONGEST = 30 * 86_400 * 1_000_000_000


class Runs(Protocol):
    """The runs of the host."""

    async def run(self, workspace_id: str, run_id: str) -> Run:
        """Raises NotFound."""


class RunTraces:
    """Does nothing without a recorder."""

    def __init__(self) -> None:
        self.recorder: Recorder | None = None
        self.runs: Runs | None = None
        self._traces: OrderedDict[str, str] = OrderedDict()
        self._lookups: asyncio.Queue[Delivery] = asyncio.Queue(LOOKUPS)

    def accepted(self, submit: Submit, accepted: Accepted, began: int) -> None:
        """An event is on disk. `began` in nanoseconds."""
        recorder = self._wanted(submit.trace_id)
        if recorder is not None and not accepted.duplicate:
            facts = {"portway.event_id": accepted.event_id, "portway.outcome": str(accepted.outcome)}
            if accepted.run_id:
                facts["portway.run_id"] = accepted.run_id
            span_id = _event_span(accepted.event_id)
            _record(recorder, submit.trace_id, span_id, submit.parent_span, "accept", began, _now(), facts)

    def run_of(self, run: QueuedRun) -> Trace:
        """Where the run is in its trace. Without a trace it begins one."""
        if not run.trace_id:
            return Trace((), self.recorder)
        return Trace.at(run.trace_id, _run_span(run.fence.run_id) if self._wanted(run.trace_id) else "", self.recorder)

    def began(self, run: QueuedRun, at: float) -> None:
        """The run has left the queue, at a moment of the monotonic clock."""
        recorder = self._wanted(run.trace_id)
        if recorder is not None:
            self._remember(run.fence.run_id, run.trace_id)
            parent, facts = _run_span(run.fence.run_id), {"portway.run_id": run.fence.run_id}
            span_id = span_id_of("queue", run.fence.run_id, str(run.fence.attempt))
            start = unix_nanoseconds(run.queued)
            _record(recorder, run.trace_id, span_id, parent, "queue", start, unix_nanoseconds(at), facts)

    async def ended(self, run: QueuedRun, outcome: str, code: str) -> None:
        """The run is settled."""
        recorder = self._wanted(run.trace_id)
        if recorder is None:
            return
        run_id = run.fence.run_id
        facts = {"portway.run_id": run_id, "portway.agent": run.agent_id, "portway.outcome": outcome}
        links = await self._parent(run)
        recorder.record(
            Span(
                trace_id=run.trace_id,
                span_id=_run_span(run_id),
                parent_id=_event_span(run.event_id),
                name="run",
                start=_time_of(run_id),
                end=_now(),
                attributes=facts,
                links=links,
                error=code,
            )
        )

    def delivered(self, delivery: Delivery) -> None:
        """A delivery has ended, or nobody knows how."""
        if self.recorder is None or not delivery.run_id:
            return
        trace_id = self._traces.get(delivery.run_id)
        if trace_id is not None:
            self._record_delivery(delivery, trace_id)
        elif not self._lookups.full():
            self._lookups.put_nowait(delivery)

    async def look_up(self) -> None:
        """Deliveries of runs that this host did not execute since its start. Until it is cancelled."""
        while True:
            delivery = await self._lookups.get()
            trace_id = await self._trace_of(delivery.workspace_id, delivery.run_id)
            if trace_id:
                self._record_delivery(delivery, trace_id)

    async def _parent(self, run: QueuedRun) -> tuple[Link, ...]:
        if not run.parent_run_id:
            return ()
        trace_id = await self._trace_of(run.fence.workspace_id, run.parent_run_id)
        return (Link(trace_id, _run_span(run.parent_run_id)),) if trace_id else ()

    async def _trace_of(self, workspace_id: str, run_id: str) -> str:
        """'' where nobody knows."""
        known = self._traces.get(run_id)
        if known is not None or self.runs is None:
            return known or ""
        try:
            found = (await self.runs.run(workspace_id, run_id)).trace_id
        except PortwayError:
            return ""
        self._remember(run_id, found)
        return found

    def _record_delivery(self, delivery: Delivery, trace_id: str) -> None:
        recorder = self._wanted(trace_id)
        if recorder is not None:
            facts: dict[str, Value] = {
                "portway.delivery_id": delivery.delivery_id,
                "portway.run_id": delivery.run_id,
                "portway.surface": delivery.surface,
                "portway.state": str(delivery.state),
                "portway.attempts": delivery.attempts,
            }
            span_id = span_id_of("delivery", delivery.delivery_id, str(delivery.attempts))
            error = "" if delivery.state == "acknowledged" else str(delivery.state)
            start, parent = delivery.create_time * _MICRO, _run_span(delivery.run_id)
            _record(recorder, trace_id, span_id, parent, "delivery", start, _now(), facts, error)

    def _remember(self, run_id: str, trace_id: str) -> None:
        self._traces[run_id] = trace_id
        self._traces.move_to_end(run_id)
        if len(self._traces) > REMEMBERED:
            self._traces.popitem(last=False)

    def _wanted(self, trace_id: str) -> Recorder | None:
        recorder = self.recorder
        return recorder if recorder is not None and trace_id and recorder.samples(trace_id) else None


def attempt_span(run_id: str, attempt: int) -> str:
    return span_id_of("attempt", run_id, str(attempt))


def attempt_before(run: QueuedRun, attempt: int) -> tuple[Link, ...]:
    """A later attempt goes back to the one before it."""
    return (Link(run.trace_id, attempt_span(run.fence.run_id, attempt - 1)),) if attempt > 1 and run.trace_id else ()


def _event_span(event_id: str) -> str:
    return span_id_of("event", event_id)


def _run_span(run_id: str) -> str:
    return span_id_of("run", run_id)


def _time_of(run_id: str) -> int:
    """When its id was made, which is when it was queued; now, where the id does not say."""
    digits, latest = run_id.rpartition("_")[2], _now()
    made = int(digits[:12], 16) * _MILLI
    return made if digits[12:13] == "7" and latest - _LONGEST <= made <= latest else latest


def _now() -> int:
    return time.time_ns()


def _record(
    recorder: Recorder,
    trace_id: str,
    span_id: str,
    parent_id: str,
    name: str,
    start: int,
    end: int,
    attributes: Mapping[str, Value],
    error: str = "",
) -> None:
    recorder.record(
        Span(
            trace_id=trace_id,
            span_id=span_id,
            parent_id=parent_id,
            name=name,
            start=start,
            end=end,
            attributes=dict(attributes),
            error=error,
        )
    )
