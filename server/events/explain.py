"""Why did it not answer? One story from the event to its deliveries, in order."""

from portway.rpc.errors import NotFound
from portway.rpc.ids import has_prefix
from portway.server.deliveries.store import Deliveries
from portway.server.events.store import EventLog
from portway.server.events.types import Event, EventOutcome
from portway.server.runs.explain import RunExplainer, conclusion
from portway.server.runs.store import FIRST_PAGE, Runs
from portway.server.runs.types import Run, RunFilter, RunState
from portway.server.transcript.store import Transcript
from portway.v1 import event_pb2 as pb

MAX_RUNS = 20
MAX_ABOUT = 50


class MessageExplainer:
    """Finds the event behind an id and tells what followed from it."""

    def __init__(
        self, events: EventLog, transcript: Transcript, runs: Runs, deliveries: Deliveries, explainer: RunExplainer
    ) -> None:
        self._events = events
        self._transcript = transcript
        self._runs = runs
        self._deliveries = deliveries
        self._explainer = explainer

    async def explain(self, workspace_id: str, name: str) -> pb.ExplainMessageResponse:
        """`name` is the id of an event, a transcript item or a delivery. Raises NotFound."""
        event = await self._event(workspace_id, name)
        runs = await self._runs.page(workspace_id, RunFilter(event_id=event.event_id), FIRST_PAGE, MAX_RUNS)
        if not runs and event.run_id:
            # It went into a run that another event had started.
            runs = [await self._runs.run(workspace_id, event.run_id)]
        response = pb.ExplainMessageResponse(event_id=event.event_id)
        response.steps.append(_accepted(event))
        response.steps.extend(_entered(event))
        response.steps.extend([_accepted(other) for other in await self._about(event)])
        for run in reversed(runs):
            response.run_ids.append(run.run_id)
            response.steps.extend(await self._explainer.steps(run))
            of_run = await self._deliveries.of_run(workspace_id, run.run_id, 200)
            response.delivery_ids.extend(delivery.delivery_id for delivery in of_run)
        response.conclusion = _conclusion(event, runs)
        response.steps.add(stage="outcome", summary=response.conclusion, ok=_is_well(event, runs), ref=event.event_id)
        return response

    async def _about(self, event: Event) -> list[Event]:
        """Edits, recalls and reactions of the message."""
        if not event.provider_message_id:
            return []
        about = await self._events.about(
            event.workspace_id, event.conversation_id, event.provider_message_id, MAX_ABOUT
        )
        return [other for other in about if other.event_id != event.event_id]

    async def _event(self, workspace_id: str, name: str) -> Event:
        if has_prefix(name, "evt"):
            return await self._events.event(workspace_id, name)
        if has_prefix(name, "msg"):
            event_id = (await self._transcript.item(workspace_id, name)).event_id
        elif has_prefix(name, "dlv"):
            event_id = (await self._deliveries.delivery(workspace_id, name)).event_id
        else:
            raise NotFound.of("event, message or delivery", name)
        return await self._events.event(workspace_id, event_id)


def _accepted(event: Event) -> pb.ExplainStep:
    why = f": {event.outcome_reason}" if event.outcome_reason else ""
    step = pb.ExplainStep(
        stage="accept",
        summary=f"{event.type} from {event.source} was accepted; outcome {event.outcome.value}{why}",
        ok=event.outcome is not EventOutcome.REFUSED,
        ref=event.event_id,
    )
    step.time.FromMicroseconds(event.accept_time)
    return step


def _entered(event: Event) -> list[pb.ExplainStep]:
    """Between the door and the binding: the same steps as in a simulation."""
    key = f"the key {event.dedupe_key!r} of {event.source} was new; whoever sends it again is told of this event"
    steps = [pb.ExplainStep(stage="dedupe", summary=key, ok=True, ref=event.event_id)]
    if event.outcome is EventOutcome.REFUSED:
        steps.append(pb.ExplainStep(stage="guard", summary=event.outcome_reason, ok=False, ref=event.event_id))
    elif event.run_id:
        steps.append(pb.ExplainStep(stage="guard", summary="no guard refused it", ok=True, ref=event.event_id))
    for step in steps:
        step.time.FromMicroseconds(event.accept_time)
    return steps


def _is_well(event: Event, runs: list[Run]) -> bool:
    if runs:
        return runs[0].state is not RunState.FAILED
    return event.outcome is not EventOutcome.REFUSED


def _conclusion(event: Event, runs: list[Run]) -> str:
    if runs:
        return conclusion(runs[0])
    if event.outcome is EventOutcome.REFUSED:
        return f"A guard refused it: {event.outcome_reason}."
    if event.outcome_reason:
        return f"It was recorded: {event.outcome_reason}."
    return "It was recorded; no agent listens to it."
