"""EventService."""

from typing import Never

from portway.rpc.call import Call
from portway.rpc.cursor import CursorCodec
from portway.server.events.accept import Acceptor
from portway.server.events.explain import MessageExplainer
from portway.server.events.simulate import Simulator
from portway.server.events.store import NEWEST, EventLog
from portway.server.events.types import Event, EventFilter
from portway.server.events.wire import event_message, outcome_number, submit_response, submitted
from portway.server.runs.store import FIRST_PAGE, Runs
from portway.server.runs.types import RunFilter
from portway.v1 import event_pb2 as pb

DEFAULT_PAGE = 50
MAX_RUNS = 100

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
        submit = submitted(request, call.caller.workspace_id, call.trace_id)
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
        response = pb.ListEventsResponse(events=[_summary(event) for event in found[:size]])
        if len(found) > size:
            response.next_page_token = self._cursors.write_page(listing, str(found[size - 1].sequence))
        return response

    async def SimulateEvent(self, request: pb.SimulateEventRequest, call: _Call) -> pb.SimulateEventResponse:
        return await self._simulator.simulate(request, call.caller.workspace_id)

    async def ExplainMessage(self, request: pb.ExplainMessageRequest, call: _Call) -> pb.ExplainMessageResponse:
        return await self._explainer.explain(call.caller.workspace_id, request.id)


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
