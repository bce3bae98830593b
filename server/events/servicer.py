"""EventService."""

from contextlib import aclosing
from typing import Never

from portway.rpc.call import Call
from portway.rpc.cursor import Cursor, CursorCodec
from portway.server.events.accept import Acceptor
from portway.server.events.explain import MessageExplainer
from portway.server.events.simulate import Simulator
from portway.server.events.store import NEWEST, EventLog
from portway.server.events.types import Event, EventFilter
from portway.server.events.watch import EventBatch, GapKind, watch_events
from portway.server.events.wire import event_message, outcome_number, submit_response, submitted
from portway.server.runs.store import FIRST_PAGE, Runs
from portway.server.runs.types import RunFilter
from portway.v1 import event_pb2 as pb
from portway.v1 import stream_pb2

DEFAULT_PAGE = 50
MAX_RUNS = 100
CURSOR_EPOCH = 1

_GAPS = {
    GapKind.EXPIRED: stream_pb2.GAP_REASON_EXPIRED,
    GapKind.OVERFLOW: stream_pb2.GAP_REASON_OVERFLOW,
    GapKind.EPOCH: stream_pb2.GAP_REASON_EPOCH,
}

_Call = Call[Never, Never]


class EventServicer:
    """Takes in what happens and tells what became of it."""

    def __init__(
        self,
        *,
        acceptor: Acceptor,
        events: EventLog,
        runs: Runs,
        cursors: CursorCodec,
        simulator: Simulator,
        explainer: MessageExplainer,
    ) -> None:
        self._acceptor = acceptor
        self._events = events
        self._runs = runs
        self._cursors = cursors
        self._simulator = simulator
        self._explainer = explainer

    async def SubmitEvent(self, request: pb.SubmitEventRequest, call: _Call) -> pb.SubmitEventResponse:
        submit = submitted(request, call.caller.workspace_id, call.trace)
        return submit_response(await self._acceptor.submit(call.caller, submit))

    async def GetEvent(self, request: pb.GetEventRequest, call: _Call) -> pb.GetEventResponse:
        workspace_id = call.caller.workspace_id
        event = await self._events.event(workspace_id, request.event_id)
        runs = await self._runs.page(workspace_id, RunFilter(event_id=event.event_id), FIRST_PAGE, MAX_RUNS)
        return pb.GetEventResponse(
            event=event_message(event),
            outcome=outcome_number(event.outcome),
            run_ids=[run.run_id for run in reversed(runs)],
        )

    async def ListEvents(self, request: pb.ListEventsRequest, call: _Call) -> pb.ListEventsResponse:
        workspace_id, size = call.caller.workspace_id, request.page_size or DEFAULT_PAGE
        listing = f"events/{workspace_id}/{request.conversation_id}/{sorted(request.types)}"
        before = int(self._cursors.read_page(request.page_token, listing)) if request.page_token else NEWEST
        which = EventFilter(conversation_id=request.conversation_id, types=tuple(request.types))
        found = await self._events.page(workspace_id, which, before, size + 1)
        response = pb.ListEventsResponse(events=[self._summary(event) for event in found[:size]])
        if len(found) > size:
            response.next_page_token = self._cursors.write_page(listing, str(found[size - 1].sequence))
        return response

    async def WatchEvents(self, request: pb.WatchEventsRequest, call: Call[None, pb.WatchEventsResponse]) -> None:
        workspace_id, after = call.caller.workspace_id, None
        if request.after_cursor:
            after = self._cursors.read(request.after_cursor, _stream(workspace_id), field="after_cursor").sequence
        which = EventFilter(conversation_id=request.conversation_id, types=tuple(request.types))
        reset = request.overflow == stream_pb2.OVERFLOW_RESET
        following = watch_events(self._events, workspace_id, which, after, call.draining, reset=reset)
        async with aclosing(following) as batches:
            async for batch in batches:
                await call.write(self._watched(workspace_id, batch))

    async def SimulateEvent(self, request: pb.SimulateEventRequest, call: _Call) -> pb.SimulateEventResponse:
        return await self._simulator.simulate(request, call.caller.workspace_id)

    async def ExplainMessage(self, request: pb.ExplainMessageRequest, call: _Call) -> pb.ExplainMessageResponse:
        return await self._explainer.explain(call.caller.workspace_id, request.id)

    def _watched(self, workspace_id: str, batch: EventBatch) -> pb.WatchEventsResponse:
        response = pb.WatchEventsResponse(events=[self._summary(event) for event in batch.events])
        if batch.gap is not None:
            response.gap.reason = _GAPS[batch.gap]
            response.gap.resume_cursor = self._cursor(workspace_id, batch.resume)
            response.gap.missing_count = batch.missing
        return response

    def _summary(self, event: Event) -> pb.EventSummary:
        summary = _summary(event)
        summary.cursor = self._cursor(event.workspace_id, event.sequence)
        return summary

    def _cursor(self, workspace_id: str, sequence: int) -> str:
        return self._cursors.write(_stream(workspace_id), Cursor(CURSOR_EPOCH, sequence))


def _stream(workspace_id: str) -> str:
    return f"events/{workspace_id}"


def _summary(event: Event) -> pb.EventSummary:
    summary = pb.EventSummary(
        event_id=event.event_id,
        type=event.type,
        source=event.source,
        conversation_id=event.conversation_id,
        summary=event.summary,
        outcome=outcome_number(event.outcome),
        sequence=event.sequence,
        actor_id=event.actor_id,
    )
    summary.accept_time.FromMicroseconds(event.accept_time)
    return summary
