"""An answer to a question: verified, and on disk as an event that starts a linked run, exactly once."""

import asyncio
import hashlib
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from portway.rpc.errors import (
    Conflict,
    FieldViolation,
    InvalidInput,
    NotFound,
    NotPermitted,
    PayloadTooLarge,
    Reason,
    WrongState,
)
from portway.rpc.identity import Caller, Role
from portway.server.agents.types import Agent
from portway.server.artifacts.store import Artifacts
from portway.server.deliveries.outbox import Outbox
from portway.server.deliveries.types import Delivery
from portway.server.events.accept import Budgets, EventQuotas
from portway.server.events.accept_unit import AcceptUnit, Taken
from portway.server.events.facts import EventFacts
from portway.server.events.guards import Guards
from portway.server.events.routing import Agents, Route
from portway.server.events.store import EventLog
from portway.server.events.submit import Submit
from portway.server.events.types import Accepted, EventOutcome
from portway.server.events.wire import facts_of
from portway.server.interactions.close import Close, close_question
from portway.server.interactions.store import Interactions, answer_interaction, read_interaction
from portway.server.interactions.types import Interaction, InteractionState
from portway.server.interactions.values import file_ids, violations_of
from portway.server.interactions.words import summary_of
from portway.server.provenance.mark import source_of_event
from portway.server.runs.pending import Work
from portway.server.storage_engine.clock import now
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.transaction import Transaction
from portway.v1 import content_pb2, event_pb2, interaction_pb2

SUBMITTED = "interaction.submitted"
SOURCE = "interactions"
MAX_BYTES = 256 * 1024
APPROVAL_PREFIX = "apr_"


@dataclass(frozen=True, slots=True)
class Given:
    """An answer and where it comes from. `place` is where an adapter says that it was given; nothing for the API."""

    answer: interaction_pb2.InteractionAnswer
    source: str
    key: str
    body_hash: bytes
    actor_id: str
    actor_name: str = ""
    place: EventFacts | None = None
    trace_id: str = ""


class Clicks(Protocol):
    """Questions of the host itself: approvals in a chat."""

    async def click(self, caller: Caller, submit: Submit, given: Given) -> Accepted:
        """Raises NotFound, NotPermitted, Conflict, WrongState."""


class Answers:
    """The only way in for answers."""

    def __init__(
        self,
        *,
        database: Database,
        events: EventLog,
        interactions: Interactions,
        artifacts: Artifacts,
        agents: Agents,
        guards: Guards,
        work: Work,
        outbox: Outbox,
        clicks: Clicks,
        quotas: EventQuotas,
        budgets: Budgets,
    ) -> None:
        self._database = database
        self._events = events
        self._interactions = interactions
        self._artifacts = artifacts
        self._agents = agents
        self._guards = guards
        self._work = work
        self._outbox = outbox
        self._clicks = clicks
        self._quotas = quotas
        self._budgets = budgets

    async def of_event(self, caller: Caller, submit: Submit) -> Accepted:
        """The event `interaction.submitted` of an adapter or a client; what it says beside the answer is not believed.

        Raises as `submit`.
        """
        event = event_pb2.Event.FromString(submit.payload)
        given = Given(
            answer=event.interaction,
            source=submit.facts.source,
            key=submit.key,
            body_hash=submit.body_hash,
            actor_id=submit.facts.actor_id,
            actor_name=submit.facts.actor_name,
            place=submit.facts if caller.role is Role.ADAPTER else None,
            trace_id=submit.trace_id,
        )
        if given.answer.interaction_id.startswith(APPROVAL_PREFIX):
            return await self._clicks.click(caller, submit, given)
        return await self.submit(caller, given, "")

    async def of_call(
        self, caller: Caller, answer: interaction_pb2.InteractionAnswer, request_id: str, trace_id: str
    ) -> Accepted:
        """A call of SubmitInteraction. Who answers is the caller; an adapter speaks for people. Raises as `submit`."""
        by_adapter = caller.role is Role.ADAPTER
        given = Given(
            answer=answer,
            source=SOURCE,
            key=f"{answer.run_id}/{answer.interaction_id}",
            body_hash=hashlib.sha256(_body(answer)).digest(),
            actor_id=answer.actor_id if by_adapter else caller.subject or caller.token_id,
            trace_id=trace_id,
        )
        return await self.submit(caller, given, request_id)

    async def submit(self, caller: Caller, given: Given, request_id: str) -> Accepted:
        """The answer means that it is on disk, and its run queued.

        Raises NotFound, NotPermitted, InvalidInput, PayloadTooLarge, Conflict (answered otherwise), WrongState
        (INTERACTION_EXPIRED, INTERACTION_WITHDRAWN, AGENT_DISABLED), LimitExceeded.
        """
        self._database.ensure_room()
        workspace_id, answer = caller.workspace_id, given.answer
        if answer.ByteSize() > MAX_BYTES:
            raise PayloadTooLarge(f"the answer has {answer.ByteSize():,} bytes; {MAX_BYTES:,} are the most")
        asked = await self._interactions.interaction(workspace_id, answer.run_id, answer.interaction_id)
        asking = event_pb2.Event.FromString((await self._events.event(workspace_id, asked.event_id)).payload)
        _check_place(caller, given, asked, asking)
        if asked.actor_id and asked.actor_id != given.actor_id:
            raise NotPermitted(
                f"The question {asked.interaction_id} is for somebody else; only who was asked may answer.",
                reason=Reason.REFUSED_BY_POLICY,
            )
        question = interaction_pb2.Interaction.FromString(asked.request)
        clean = _clean(question, answer, given.actor_id)
        if asked.state is not InteractionState.OPEN:
            return _settled(asked, clean)
        await self._check_values(workspace_id, asked, question, clean)
        agent = await self._agent(workspace_id, asked.agent_id)
        submit = _submit(workspace_id, asked, asking, question, clean, given)
        self._quotas.admit_event(workspace_id)
        refusal = self._guards.refusal(agent, submit.facts)
        refusal = refusal or await self._budgets.refusal(agent, asked.conversation_id)
        if refusal:
            self._guards.tell(caller, agent, submit.facts, refusal)
            raise NotPermitted(f"The answer is refused: {refusal}.", reason=Reason.REFUSED_BY_POLICY)
        self._work.ensure_room(workspace_id)
        done = self._database.writer.submit(_AnswerUnit(submit, agent, asked, clean, request_id))
        self._quotas.entering(workspace_id)
        done.add_done_callback(partial(self._begin, workspace_id))
        return (await asyncio.shield(done))[0].accepted

    async def _check_values(
        self,
        workspace_id: str,
        asked: Interaction,
        question: interaction_pb2.Interaction,
        answer: interaction_pb2.InteractionAnswer,
    ) -> None:
        violations = violations_of(question, answer)
        for name, artifact_id in file_ids(question, answer):
            try:
                artifact = await self._artifacts.artifact(workspace_id, artifact_id)
                known = artifact.conversation_id in ("", asked.conversation_id)
            except NotFound:
                known = False
            if not known:
                violations.append(FieldViolation(f"answer.values.{name}", f"there is no artifact {artifact_id!r}"))
        if violations:
            raise InvalidInput("; ".join(f"{one.field}: {one.description}" for one in violations), fields=violations)

    async def _agent(self, workspace_id: str, agent_id: str) -> Agent:
        agent = await self._agents.get(workspace_id, agent_id)
        if agent.spec.disabled:
            raise WrongState(
                f"The agent {agent_id} that asked is switched off. Switch it on, then answer again.",
                reason=Reason.AGENT_DISABLED,
            )
        return agent

    def _begin(self, workspace_id: str, done: "asyncio.Future[tuple[Taken, Delivery | None]]") -> None:
        self._quotas.entered(workspace_id)
        # Not after the wait: a caller that goes away meanwhile must not leave a committed run unknown to the queue.
        if done.cancelled() or done.exception() is not None:
            return
        taken, edit = done.result()
        if taken.run is not None:
            self._work.add(taken.run)
        if edit is not None:
            self._outbox.wake(edit)


class _AnswerUnit:
    """Question, event, transcript and run in one."""

    def __init__(
        self,
        submit: Submit,
        agent: Agent,
        asked: Interaction,
        answer: interaction_pb2.InteractionAnswer,
        request_id: str,
    ) -> None:
        self._accept = AcceptUnit(submit, Route(agent))
        self._asked = asked
        self._answer = answer
        self._request_id = request_id

    def __call__(self, tx: Transaction) -> tuple[Taken, Delivery | None]:
        asked = read_interaction(tx, self._asked.workspace_id, self._asked.run_id, self._asked.interaction_id)
        if asked.state is not InteractionState.OPEN or asked.expire_time <= tx.now:
            return Taken(_settled(asked, self._answer)), None
        taken = self._accept(tx)
        if taken.accepted.duplicate:
            # The key stands for an event that answered something else.
            raise Conflict("the key of this event was used before", reason=Reason.SAME_KEY_OTHER_BODY)
        answered = answer_interaction(
            tx,
            asked,
            answer=self._answer.SerializeToString(deterministic=True),
            request_id=self._request_id,
            event_id=taken.accepted.event_id,
            run_id=taken.accepted.run_id,
        )
        if answered is None:
            raise _expired(asked)
        close = Close(interaction_pb2.INTERACTION_STATE_ANSWERED, self._answer)
        return taken, close_question(tx, asked, close)


def _check_place(caller: Caller, given: Given, asked: Interaction, asking: event_pb2.Event) -> None:
    """An adapter answers only what was asked in its own chats, and people only where they were asked."""
    if caller.role is not Role.ADAPTER:
        return
    missing = NotFound.of("interaction", asked.interaction_id)
    place = given.place
    if place is None:
        if asking.source != caller.subject:
            raise missing
        return
    there = facts_of(asking, asked.workspace_id)
    if (place.surface, place.bot_id) != (there.surface, there.bot_id):
        raise missing
    if place.conversation_id:
        same = place.conversation_id == asked.conversation_id
    else:
        same = bool(place.chat_key) and place.chat_key == there.chat_key
    if not same:
        raise missing


def _settled(asked: Interaction, answer: interaction_pb2.InteractionAnswer) -> Accepted:
    """The first answer, where this is the same one. Raises Conflict, WrongState."""
    if asked.state is InteractionState.ANSWERED:
        first = interaction_pb2.InteractionAnswer.FromString(asked.answer)
        if _body(first) == _body(answer):
            return Accepted(
                asked.answer_event_id, 0, asked.answer_run_id, asked.conversation_id, "", EventOutcome.RUN, True
            )
        raise Conflict(
            f"The question {asked.interaction_id} was answered before, with something else.",
            reason=Reason.ALREADY_EXISTS,
        )
    if asked.state is InteractionState.WITHDRAWN:
        raise WrongState(
            f"The run {asked.run_id} that asked was cancelled; the question is withdrawn.",
            reason=Reason.INTERACTION_WITHDRAWN,
        )
    raise _expired(asked)


def _expired(asked: Interaction) -> WrongState:
    return WrongState(
        f"The time for the question {asked.interaction_id} is over. Ask the agent again.",
        reason=Reason.INTERACTION_EXPIRED,
    )


def _clean(
    question: interaction_pb2.Interaction, answer: interaction_pb2.InteractionAnswer, actor_id: str
) -> interaction_pb2.InteractionAnswer:
    """With the button that is the only one, and without empty values."""
    clean = interaction_pb2.InteractionAnswer()
    clean.CopyFrom(answer)
    clean.actor_id = actor_id
    if not clean.action_id and len(question.actions) == 1:
        clean.action_id = question.actions[0].id
    fields = clean.values.fields
    for name in [name for name, value in fields.items() if value.WhichOneof("kind") in (None, "null_value")]:
        del fields[name]
    return clean


def _body(answer: interaction_pb2.InteractionAnswer) -> bytes:
    """What makes it the same answer: not who gave it."""
    body = interaction_pb2.InteractionAnswer(action_id=answer.action_id)
    if answer.values.fields:
        body.values.CopyFrom(answer.values)
    return body.SerializeToString(deterministic=True)


def _submit(
    workspace_id: str,
    asked: Interaction,
    asking: event_pb2.Event,
    question: interaction_pb2.Interaction,
    answer: interaction_pb2.InteractionAnswer,
    given: Given,
) -> Submit:
    """The event that the answer becomes: where the question was asked, by whoever answered."""
    event = event_pb2.Event(
        type=SUBMITTED, source=given.source, source_event_type=SUBMITTED, interaction=answer, addressed=True
    )
    event.event_time.FromMicroseconds(now())
    event.address.CopyFrom(asking.address)
    event.address.conversation_id = asked.conversation_id
    event.actor.type, event.actor.id, event.actor.name = "user", given.actor_id, given.actor_name
    if given.actor_id == asking.actor.id:
        event.actor.CopyFrom(asking.actor)
    for name in ("subject", "capabilities", "adapter"):
        if asking.HasField(name):
            getattr(event, name).CopyFrom(getattr(asking, name))
    words = summary_of(question, answer)
    part = content_pb2.AnswerPart(answer=answer, title=question.title)
    said = content_pb2.Message(parts=[content_pb2.ContentPart(answer=part)], role=content_pb2.MESSAGE_ROLE_SYSTEM)
    said.parts[0].provenance.CopyFrom(source_of_event(event))
    said.parts[0].provenance.run_id = asked.run_id
    return Submit(
        facts=replace(facts_of(event, workspace_id), source=given.source),
        key=given.key,
        body_hash=given.body_hash,
        payload=event.SerializeToString(deterministic=True),
        content=said.SerializeToString(),
        event_time=event.event_time.ToMicroseconds(),
        summary=words,
        artifact_ids=tuple(artifact_id for _, artifact_id in file_ids(question, answer)),
        agent_id=asked.agent_id,
        parent_run_id=asked.run_id,
        trace_id=given.trace_id,
        item_role="system",
        item_kind="interaction",
    )
