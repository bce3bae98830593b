"""What submitting an event would do: the same checks in the same order, and nothing done."""

from dataclasses import replace

from portway.rpc.errors import NotFound, PortwayError
from portway.server.agents.types import Agent, EditPolicy, QueuePolicy
from portway.server.conversations.store import Conversations
from portway.server.events.accept import Budgets
from portway.server.events.accept_unit import AcceptUnit
from portway.server.events.amendments import Amendments, bound_route, is_amendment
from portway.server.events.facts import RECALL, EventFacts
from portway.server.events.guards import Guards
from portway.server.events.routing import Route, Router
from portway.server.events.submit import Submit
from portway.server.events.wire import submit_of
from portway.server.runs.pending import Work
from portway.server.runs.types import RunState
from portway.server.runtimes.link import RuntimeLink
from portway.server.snapshot.context_parts import resources_of
from portway.server.snapshot.explained import binding_message
from portway.server.snapshot.freeze import freeze
from portway.server.snapshot.grants import GrantBook
from portway.server.snapshot.projection import project
from portway.server.snapshot.wire import permissions_message
from portway.server.storage_engine.reader import Reader
from portway.v1 import event_pb2 as pb

_UNKNOWN_CONVERSATION = "cnv_simulated"


class Simulator:
    """Goes the way of an event without leaving a trace."""

    def __init__(
        self,
        *,
        reader: Reader,
        conversations: Conversations,
        router: Router,
        guards: Guards,
        amendments: Amendments,
        budgets: Budgets,
        work: Work,
        runtime: RuntimeLink,
        grants: GrantBook,
    ) -> None:
        self._reader = reader
        self._conversations = conversations
        self._router = router
        self._guards = guards
        self._amendments = amendments
        self._budgets = budgets
        self._work = work
        self._runtime = runtime
        self._grants = grants

    async def simulate(self, request: pb.SimulateEventRequest, workspace_id: str) -> pb.SimulateEventResponse:
        """What SubmitEvent would refuse is an answer here."""
        response = pb.SimulateEventResponse()
        try:
            await self._go(request, workspace_id, response)
        except PortwayError as error:
            response.refusal_reason = str(error.reason)
            response.outcome = pb.EVENT_OUTCOME_REFUSED
            _step(response, "outcome", error.message, ok=False)
        return response

    async def _go(
        self, request: pb.SimulateEventRequest, workspace_id: str, response: pb.SimulateEventResponse
    ) -> None:
        key = request.idempotency_key or "simulated"
        submitted = pb.SubmitEventRequest(event=request.event, idempotency_key=key, agent_id=request.agent_id)
        submit = submit_of(submitted, workspace_id)
        _step(response, "accept", f"{submit.facts.type} from {submit.facts.source} is well formed")
        if request.idempotency_key and await self._is_duplicate(submit, response):
            return
        facts = await self._placed(submit.facts)
        if is_amendment(facts) and await bound_route(self._router, facts, submit.agent_id) is None:
            await self._amend(facts, response)
            return
        route = await self._router.route(facts, submit.agent_id)
        if route.resolution is not None:
            response.binding.CopyFrom(binding_message(route.resolution))
        agent = route.agent
        if agent is None:
            response.outcome = pb.EVENT_OUTCOME_RECORDED
            _step(response, "outcome", "it would be recorded; no agent listens to it")
            return
        why = route.resolution.reason if route.resolution else "the request names the agent"
        _step(response, "binding", f"agent {agent.agent_id}: {why}", ref=route.binding_id)
        refusal = self._guards.refusal(agent, facts, counting=False)
        if refusal:
            response.outcome = pb.EVENT_OUTCOME_REFUSED
            response.refusal_reason = "REFUSED_BY_POLICY"
            _step(response, "guard", refusal, ok=False)
            return
        _step(response, "guard", "no guard refuses it")
        unpaid = await self._budgets.refusal(agent, facts.conversation_id)
        if unpaid:
            response.outcome = pb.EVENT_OUTCOME_REFUSED
            response.refusal_reason = "BUDGET_EXHAUSTED"
            _step(response, "budget", unpaid, ok=False)
            return
        await self._snapshot(agent, facts, request.event, response)
        self._queue(route, agent, facts, response)

    async def _is_duplicate(self, submit: Submit, response: pb.SimulateEventResponse) -> bool:
        earlier = await self._reader.run(AcceptUnit(submit, Route(None)).duplicate)
        if earlier is None:
            _step(response, "dedupe", "the key is new")
            return False
        response.outcome = pb.EVENT_OUTCOME_RECORDED
        _step(response, "dedupe", "it was accepted before; nothing new would happen", ref=earlier.event_id)
        return True

    async def _amend(self, facts: EventFacts, response: pb.SimulateEventResponse) -> None:
        """An edit or a recall: what becomes of the message, and of its run."""
        amendment = await self._amendments.of(facts)
        response.outcome = pb.EVENT_OUTCOME_RECORDED
        original, run, agent = amendment.original, amendment.run, amendment.agent
        if original is None:
            _step(response, "amend", "the message that it is about is not known; it would be recorded", ok=False)
            return
        refusal = self._guards.refusal(agent, facts, counting=False) if agent is not None else ""
        if refusal:
            response.outcome, response.refusal_reason = pb.EVENT_OUTCOME_REFUSED, "REFUSED_BY_POLICY"
            _step(response, "guard", refusal, ok=False)
            return
        _step(response, "amend", "it would change the message in the transcript", ref=original.item_id)
        if run is None or run.state.final or amendment.policy is EditPolicy.IGNORE:
            _step(response, "queue", "no run would change: it has ended, there is none, or its agent takes no edits")
        elif facts.type == RECALL:
            _step(response, "queue", "its run would be cancelled, unless it has answered", ref=run.run_id)
        elif amendment.policy is EditPolicy.STEER and run.state is not RunState.QUEUED:
            response.outcome = pb.EVENT_OUTCOME_STEER
            _step(response, "queue", "it would go into its run, where that takes messages", ref=run.run_id)
        else:
            response.outcome = pb.EVENT_OUTCOME_RUN
            _step(
                response, "queue", "a new run would take the place of its run, unless it has answered", ref=run.run_id
            )

    async def _placed(self, facts: EventFacts) -> EventFacts:
        if facts.conversation_id or not facts.chat_key:
            return facts
        try:
            current = await self._conversations.current(facts.workspace_id, facts.chat_key)
        except NotFound:
            return facts
        return replace(facts, conversation_id=current.conversation_id)

    async def _snapshot(
        self, agent: Agent, facts: EventFacts, event: pb.Event, response: pb.SimulateEventResponse
    ) -> None:
        runner = await self._runtime.find(agent.spec.runner_id)
        placed = facts if facts.conversation_id else replace(facts, conversation_id=_UNKNOWN_CONVERSATION)
        actions = frozenset(event.capabilities.platform_actions)
        snapshot = freeze(self._grants.of(agent, runner), placed, "evt_simulated", actions)
        response.resources.CopyFrom(resources_of(snapshot, project(snapshot)))
        response.permissions.CopyFrom(permissions_message(snapshot.permissions))
        for layer in snapshot.layers:
            removed = "; ".join(layer.removed) or "took nothing away"
            _step(response, "snapshot", f"{layer.name}: {removed}")

    def _queue(self, route: Route, agent: Agent, facts: EventFacts, response: pb.SimulateEventResponse) -> None:
        workspace_id, conversation_id = facts.workspace_id, facts.conversation_id
        self._work.ensure_room(workspace_id)
        busy = bool(conversation_id) and self._work.is_busy(workspace_id, conversation_id)
        policy = agent.spec.queue_policy
        if busy and policy is QueuePolicy.REJECT:
            response.refusal_reason = "CONVERSATION_BUSY"
            response.outcome = pb.EVENT_OUTCOME_REFUSED
            _step(response, "queue", "the conversation has a run under way, and the agent refuses more", ok=False)
            return
        if busy and policy is QueuePolicy.STEER and self._work.steerable(workspace_id, conversation_id):
            response.outcome = pb.EVENT_OUTCOME_STEER
            _step(response, "queue", "it would go into the run that is under way")
            return
        response.outcome = pb.EVENT_OUTCOME_RUN
        told = "it would wait for the run before it" if busy else "it would run at once"
        if busy and policy is QueuePolicy.INTERRUPT:
            told = "it would cancel the run that is under way"
        _step(response, "queue", told, ref=route.binding_id)


def _step(response: pb.SimulateEventResponse, stage: str, summary: str, *, ok: bool = True, ref: str = "") -> None:
    response.steps.add(stage=stage, summary=summary, ok=ok, ref=ref)
