"""Why a run was allowed what it was, and why it ended as it did."""

from portway.rpc.cursor import CursorCodec
from portway.rpc.errors import NotFound
from portway.server.deliveries.store import Deliveries
from portway.server.deliveries.types import Delivery
from portway.server.effects.store import Effects
from portway.server.effects.types import Effect, EffectState
from portway.server.interactions.store import Interactions
from portway.server.interactions.types import Interaction, InteractionState
from portway.server.runs.ending import AWAITING
from portway.server.runs.explain_grant import attempt_steps, binding_step, grant_steps
from portway.server.runs.store import Ledgers, Runs
from portway.server.runs.types import Attempt, Run, RunState
from portway.server.runs.wire import run_message
from portway.v1 import delivery_pb2, event_pb2, run_agent_pb2, run_context_pb2, run_pb2, run_snapshot_pb2

MAX_STEPS = 500
_GOOD_ENDS = frozenset({"stop", "length", "tool_limit", "content_filter", AWAITING})
_CONCLUSIONS = {
    RunState.QUEUED: "It waits for its turn.",
    RunState.RUNNING: "It executes.",
    RunState.WAITING: "It waits for an approval.",
}
_EFFECTS = {
    EffectState.PLANNED: "it was called, and its end is not known yet",
    EffectState.DONE: "it was done",
    EffectState.FAILED: "it failed",
    EffectState.UNKNOWN: "it may have acted, nobody knows; it is not called again",
}


class RunExplainer:
    """Puts together what is on record of a run."""

    def __init__(
        self,
        runs: Runs,
        ledgers: Ledgers,
        deliveries: Deliveries,
        effects: Effects,
        interactions: Interactions,
        cursors: CursorCodec,
    ) -> None:
        self._interactions = interactions
        self._runs = runs
        self._ledgers = ledgers
        self._deliveries = deliveries
        self._effects = effects
        self._cursors = cursors

    async def explain(self, workspace_id: str, run_id: str) -> run_pb2.ExplainRunResponse:
        """Raises NotFound."""
        run = await self._runs.run(workspace_id, run_id)
        attempts = await self._runs.attempts(workspace_id, run_id)
        response = run_pb2.ExplainRunResponse(
            run=run_message(run, self._cursors),
            attempts=[_attempt(attempt) for attempt in attempts],
            steps=await self.steps(run),
            conclusion=conclusion(run),
        )
        try:
            kept, raw = await self._ledgers.snapshot(workspace_id, run_id)
        except NotFound:
            return response
        snapshot = run_snapshot_pb2.RunSnapshot.FromString(kept)
        response.layers.extend(snapshot.layers)
        response.resources.CopyFrom(run_context_pb2.RunContext.FromString(raw).resources)
        if snapshot.HasField("binding"):
            response.binding.CopyFrom(snapshot.binding)
        elif run.binding_id:
            response.binding.binding_id, response.binding.agent_id = run.binding_id, run.agent_id
        return response

    async def steps(self, run: Run) -> list[event_pb2.ExplainStep]:
        """What happened in order: what it was allowed, what an operator can use of the ledger, effects, deliveries."""
        begun = await self._begun(run)
        steps = attempt_steps(await self._runs.attempts(run.workspace_id, run.run_id))
        after = 0
        while len(steps) < MAX_STEPS:
            page = await self._ledgers.ledger(run.workspace_id, run.run_id, after, 200)
            if not page:
                break
            for entry in page:
                step = _ledger_step(run_pb2.RunEvent.FromString(entry.payload))
                if step is not None:
                    steps.append(step)
            after = page[-1].sequence
        for effect in await self._effects.of_run(run.workspace_id, run.run_id, 200):
            steps.append(effect_step(effect))
        for question in await self._interactions.of_run(run.workspace_id, run.run_id):
            if question.end_time:
                steps.append(_question_step(question))
        for delivery in await self._deliveries.of_run(run.workspace_id, run.run_id, 200):
            steps.append(delivery_step(delivery))
        steps.sort(key=lambda step: step.time.ToMicroseconds())
        # What it was allowed comes before everything that it did, whatever was on disk first.
        return begun + steps

    async def _begun(self, run: Run) -> list[event_pb2.ExplainStep]:
        """How it came to its agent and what it was allowed; of the latter nothing before the first attempt."""
        try:
            kept, raw = await self._ledgers.snapshot(run.workspace_id, run.run_id)
        except NotFound:
            return [binding_step(run, None)]
        snapshot = run_snapshot_pb2.RunSnapshot.FromString(kept)
        context = run_context_pb2.RunContext.FromString(raw)
        return [binding_step(run, snapshot), *grant_steps(run, snapshot, context)]


def conclusion(run: Run) -> str:
    """One sentence."""
    if run.state is RunState.COMPLETED:
        return f"It completed ({run.finish_reason})."
    if run.state.final:
        return f"It {run.state.value} with {run.failure.code}: {run.failure.message}"
    return "It was asked to stop and has not stopped yet." if run.cancelling else _CONCLUSIONS[run.state]


def _what(delivery: Delivery) -> str:
    """What is delivered, where it is no message."""
    payload = delivery_pb2.DeliveryPayload.FromString(delivery.payload)
    kind = payload.WhichOneof("kind") or "message"
    if kind == "action":
        return f"action {payload.action.action} "
    return "" if kind == "message" else f"{kind} "


def delivery_step(delivery: Delivery) -> event_pb2.ExplainStep:
    """Where a delivery is."""
    why = f" ({delivery.error_code}: {delivery.error_message})" if delivery.error_code else ""
    summary = f"{_what(delivery)}to {delivery.surface}: {delivery.state}, {delivery.attempts} attempts{why}"
    step = _step("delivery", summary, delivery.create_time, delivery.delivery_id)
    step.ok = not delivery.error_code
    return step


def effect_step(effect: Effect) -> event_pb2.ExplainStep:
    """What was written down before a call, and what became of it."""
    kind = effect.idempotency.replace("_", " ")
    summary = f"{effect.tool} ({effect.call_id}) is {kind}, {effect.state}: {_EFFECTS[effect.state]}"
    step = _step("tool", summary, effect.create_time, effect.effect_id)
    step.ok = effect.state is EffectState.DONE
    step.details.update(
        {
            "tool": effect.tool,
            "call_id": effect.call_id,
            "attempt": effect.attempt,
            "idempotency": effect.idempotency.value,
            "state": effect.state.value,
        }
    )
    return step


def _question_step(question: Interaction) -> event_pb2.ExplainStep:
    """What became of what it asked people."""
    became = f"; its answer started {question.answer_run_id}" if question.answer_run_id else ""
    summary = f"the question {question.interaction_id} was {question.state}{became}"
    step = _step("interaction", summary, question.end_time, question.answer_event_id or question.run_id)
    step.ok = question.state is InteractionState.ANSWERED
    return step


def _attempt(attempt: Attempt) -> run_pb2.ExplainedAttempt:
    state = attempt.state.value
    if state == "ended":
        state = "completed" if attempt.outcome in _GOOD_ENDS else "failed"
    message = run_pb2.ExplainedAttempt(attempt=attempt.attempt, state=state, reason=attempt.outcome)
    message.start_time.FromMicroseconds(attempt.start_time)
    if attempt.end_time:
        message.end_time.FromMicroseconds(attempt.end_time)
    return message


def _ledger_step(event: run_pb2.RunEvent) -> event_pb2.ExplainStep | None:
    """Of the kinds that explain something; text does not."""
    told = _told_of_people(event) or _told(event)
    if told is None:
        return None
    stage, summary, ok = told
    step = event_pb2.ExplainStep(stage=stage, summary=summary, ok=ok, ref=event.run_id)
    step.time.CopyFrom(event.time)
    return step


def _told(event: run_pb2.RunEvent) -> tuple[str, str, bool] | None:
    match event.WhichOneof("kind"):
        case "state_changed":
            state = run_pb2.RunState.Name(event.state_changed.state).removeprefix("RUN_STATE_").lower()
            return "run", f"{state} {event.state_changed.reason}".strip(), True
        case "reset":
            return "run", f"attempt {event.reset.attempt} begins: {event.reset.reason}", True
        case "tool_call_started":
            return "tool", f"the runner calls {event.tool_call_started.tool}", True
        case "tool_call_completed":
            failed = event.tool_call_completed.HasField("error")
            why = f"failed: {event.tool_call_completed.error.message}" if failed else "answered"
            return "tool", f"{event.tool_call_completed.tool} {why}", not failed
        case "message_completed":
            return "run", f"it said the message {event.message_completed.message.message_id}", True
        case "recorded":
            return "run", f"refused ({event.recorded.reason}): {event.recorded.summary}", False
        case "notice":
            return "run", f"people were told: {event.notice.text}", False
        case "run_completed":
            return "outcome", "it completed", True
        case "run_failed":
            return "outcome", f"{event.run_failed.error.code}: {event.run_failed.error.message}", False
        case _:
            return None


def _told_of_people(event: run_pb2.RunEvent) -> tuple[str, str, bool] | None:
    """What it asked of people and of the platform."""
    kind = event.WhichOneof("kind")
    if kind not in ("action_requested", "approval_requested", "approval_decided"):
        return None
    if kind == "action_requested":
        asked = event.action_requested
        if asked.HasField("interaction"):
            return "run", f"it asked people {asked.interaction.interaction_id}: {asked.interaction.title}", True
        return "delivery", f"it asked the platform for {asked.action.action}", True
    if kind == "approval_requested":
        return "run", f"it waits for an approval: {event.approval_requested.approval.title}", True
    approval = event.approval_decided.approval
    state = run_agent_pb2.ApprovalState.Name(approval.state).removeprefix("APPROVAL_STATE_").lower()
    by = f" by {approval.decided_by}" if approval.decided_by else ""
    return "run", f"{state}{by}: {approval.title}", state == "approved"


def _step(stage: str, summary: str, time: int, ref: str) -> event_pb2.ExplainStep:
    step = event_pb2.ExplainStep(stage=stage, summary=summary, ok=True, ref=ref)
    step.time.FromMicroseconds(time)
    return step
