"""Accepting an event: checked, routed, and on disk exactly once before anybody is told so."""

import asyncio
import dataclasses
import time
import weakref
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Protocol

from portway.rpc.errors import LimitExceeded, NotFound, WrongState
from portway.rpc.identity import Caller
from portway.server.agents.types import Agent, QueuePolicy
from portway.server.artifacts.types import Artifact
from portway.server.conversations.store import Conversations
from portway.server.deliveries.types import Delivery
from portway.server.events.accept_unit import AcceptUnit, Taken
from portway.server.events.amend_unit import AmendUnit
from portway.server.events.amendments import EDITED, RECALLED, Amendments, bound_route, is_amendment
from portway.server.events.facts import EDIT
from portway.server.events.guards import Guards
from portway.server.events.place import Places
from portway.server.events.refusals import Refusals
from portway.server.events.routing import Route, Router
from portway.server.events.submit import Submit
from portway.server.events.types import Accepted
from portway.server.events.wire import attached
from portway.server.runs.pending import Work
from portway.server.spending.types import is_limited
from portway.server.storage_engine.database import Database

INTERACTION = "interaction.submitted"


class Answers(Protocol):
    """Takes the answers to questions."""

    async def of_event(self, caller: Caller, submit: Submit) -> Accepted:
        """Raises NotFound, NotPermitted, InvalidInput, Conflict, WrongState, LimitExceeded."""


class Budgets(Protocol):
    """What agents, their conversations and workspaces have left."""

    async def refusal(self, agent: Agent, conversation_id: str) -> str:
        """Why a new event may not start a run; '' where it may."""


class EventQuotas(Protocol):
    """How many events a workspace may send."""

    def admit_event(self, workspace_id: str) -> None:
        """Counts one. Raises WrongState (WORKSPACE_DISABLED), LimitExceeded (QUOTA_EXCEEDED)."""

    def entering(self, workspace_id: str) -> None:
        """One was admitted and is about to be on disk."""

    def entered(self, workspace_id: str) -> None:
        """It is, with its run queued, or it is not."""


class Artifacts(Protocol):
    """The host's own records of files."""

    async def artifact(self, workspace_id: str, artifact_id: str) -> Artifact:
        """Raises NotFound."""


class Traces(Protocol):
    """Who is told what became of events."""

    def accepted(self, submit: Submit, accepted: Accepted, began: int) -> None:
        """It is on disk; `began` in nanoseconds. Never waits."""


class Outbox(Protocol):
    """Where deliveries wait for their adapter."""

    def wake(self, delivery: Delivery) -> None:
        """After the commit. Never blocks."""


class Acceptor:
    """The only way in for events."""

    def __init__(
        self,
        database: Database,
        conversations: Conversations,
        router: Router,
        guards: Guards,
        work: Work,
        amendments: Amendments,
        budgets: Budgets,
        quotas: EventQuotas,
        artifacts: Artifacts,
        outbox: Outbox,
    ) -> None:
        self._database = database
        self._places = Places(conversations)
        self._router = router
        self._guards = guards
        self._work = work
        self._amendments = amendments
        self._budgets = budgets
        self._quotas = quotas
        self._artifacts = artifacts
        self._outbox = outbox
        self._refusals = Refusals()
        # Answers to questions are verified and take another way; whoever builds the host says which.
        self.answers: Answers | None = None
        self.traces: Traces | None = None
        self._turns: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = weakref.WeakValueDictionary()

    async def submit(self, caller: Caller, submit: Submit) -> Accepted:
        """Accept the event; the answer means that it is on disk.

        Raises InvalidInput, NotFound, Conflict (same key, other body), WrongState (NO_BINDING, BINDING_AMBIGUOUS,
        AGENT_DISABLED, CONVERSATION_BUSY, WORKSPACE_DISABLED), LimitExceeded (overload, low disk, quota). The same key
        may always be sent again.
        """
        if submit.facts.type == INTERACTION and self.answers is not None:
            return await self.answers.of_event(caller, submit)
        self._database.ensure_room()
        if submit.artifact_ids:
            submit = await self._with_true_attachments(submit)
        if is_amendment(submit.facts):
            return await self._amend(caller, submit)
        if await self._router.needs_conversation(submit.facts, submit.agent_id):
            submit = await self._placed(submit)
        try:
            self._quotas.admit_event(submit.facts.workspace_id)
            route = await self._router.route(submit.facts, submit.agent_id)
        except (WrongState, NotFound, LimitExceeded):
            # Bindings and agents may have changed since: what was accepted then is answered as it was then.
            earlier = await self._earlier(submit)
            if earlier is None:
                raise
            return earlier
        submit = await self._places.of_agent(submit, route.agent)
        async with self._turn(submit, route.agent):
            return await self._accept(caller, submit, route)

    async def _with_true_attachments(self, submit: Submit) -> Submit:
        """What a file is called and how large it is stands in the host's own record, whatever the sender says."""
        workspace_id = submit.facts.workspace_id
        try:
            found = [await self._artifacts.artifact(workspace_id, one) for one in submit.artifact_ids]
        except NotFound:
            if await self._earlier(submit) is None:
                raise
            # The upload is gone since; the event was accepted while it was there.
            return submit
        return attached(submit, found)

    async def _earlier(self, submit: Submit) -> Accepted | None:
        return await self._database.reader.run(AcceptUnit(submit, Route(None)).duplicate)

    async def _amend(self, caller: Caller, submit: Submit) -> Accepted:
        try:
            self._quotas.admit_event(submit.facts.workspace_id)
        except (WrongState, LimitExceeded):
            earlier = await self._earlier(submit)
            if earlier is None:
                raise
            return earlier
        submit = await self._placed(submit)
        amendment = await self._amendments.of(submit.facts)
        route = await bound_route(self._router, submit.facts, submit.agent_id) or Route(None)
        unit = AmendUnit(submit, route, amendment)
        agent = route.agent or amendment.agent
        if agent is not None:
            unit.refusal = self._guards.refusal(agent, submit.facts)
            unit.steerable = self._work.steerable
        return await self._commit(caller, submit, agent, unit)

    async def _accept(self, caller: Caller, submit: Submit, route: Route) -> Accepted:
        unit = AcceptUnit(submit, route)
        agent = route.agent
        if agent is not None:
            unit.refusal = self._guards.refusal(agent, submit.facts) or await self._unpaid(agent, submit)
            if unit.refusal:
                unit.refusal_text = self._refusals.text(agent, submit.facts)
            else:
                await self._apply_policy(unit, agent, submit)
        return await self._commit(caller, submit, agent, unit)

    async def _commit(self, caller: Caller, submit: Submit, agent: Agent | None, unit: AcceptUnit) -> Accepted:
        began = time.time_ns()
        done = self._database.writer.submit(unit)
        self._quotas.entering(submit.facts.workspace_id)
        # Not after the wait: a caller that goes away meanwhile must not leave a committed run unknown to the queue.
        done.add_done_callback(partial(self._begin, agent, submit))
        taken = await asyncio.shield(done)
        if unit.refusal and agent is not None and not taken.accepted.duplicate:
            self._guards.tell(caller, agent, submit.facts, unit.refusal)
        if self.traces is not None:
            self.traces.accepted(submit, taken.accepted, began)
        return taken.accepted

    async def _unpaid(self, agent: Agent, submit: Submit) -> str:
        """Why nobody would pay for a run; '' where somebody does."""
        limited = is_limited(agent.spec.conversation_budget)
        facts = (await self._placed(submit)).facts if limited else submit.facts
        return await self._budgets.refusal(agent, facts.conversation_id)

    async def _apply_policy(self, unit: AcceptUnit, agent: Agent, submit: Submit) -> None:
        self._work.ensure_room(submit.facts.workspace_id)
        policy = _policy(agent, submit)
        if policy is QueuePolicy.STEER:
            unit.steerable = self._work.steerable
        elif policy is QueuePolicy.REJECT:
            facts = (await self._placed(submit)).facts
            unit.busy = bool(facts.conversation_id) and self._work.is_busy(facts.workspace_id, facts.conversation_id)

    def _begin(self, agent: Agent | None, submit: Submit, done: "asyncio.Future[Taken]") -> None:
        self._quotas.entered(submit.facts.workspace_id)
        if done.cancelled() or done.exception() is not None or agent is None:
            return
        taken = done.result()
        if taken.delivery is not None:
            self._outbox.wake(taken.delivery)
        if taken.replaced is not None:
            self._work.replace(taken.replaced, EDITED if submit.facts.type == EDIT else RECALLED)
        if taken.unsteered is not None:
            self._work.unsteer(taken.unsteered.workspace_id, taken.unsteered.run_id, taken.unsteered.event_id)
        run = taken.run
        if run is None:
            return
        if taken.arrival is not None:
            self._work.steer(run.fence, taken.arrival)
            return
        if taken.replaced is None and _policy(agent, submit) is QueuePolicy.INTERRUPT:
            self._work.interrupt(run.fence.workspace_id, run.conversation_id, run.event_id)
        self._work.add(run)

    async def _placed(self, submit: Submit) -> Submit:
        """With the conversation that its chat is in now."""
        return dataclasses.replace(submit, facts=await self._places.current(submit.facts))

    def _turn(self, submit: Submit, agent: Agent | None) -> "AbstractAsyncContextManager[object]":
        """Agents that refuse when busy take one message of a chat at a time: two at once must not both find it free."""
        if agent is None or _policy(agent, submit) is not QueuePolicy.REJECT:
            return nullcontext()
        facts = submit.facts
        return self._turns.setdefault((facts.workspace_id, facts.conversation_id or facts.chat_key), asyncio.Lock())


def _policy(agent: Agent, submit: Submit) -> QueuePolicy:
    return submit.queue_policy or agent.spec.queue_policy
