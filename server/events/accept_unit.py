"""The one transaction that accepts an event."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from portway.rpc.errors import LimitExceeded, NotFound, Reason, Stale, WrongState
from portway.rpc.ids import has_prefix, new_id
from portway.server.agents.types import Agent
from portway.server.artifacts.store import attach_artifacts
from portway.server.conversations.store import begin_conversation, enter_chat, read_conversation
from portway.server.conversations.types import Conversation, NewConversation
from portway.server.deliveries.compose import host_message, message_delivery
from portway.server.deliveries.store import enqueue_delivery
from portway.server.deliveries.types import Delivery
from portway.server.events.routing import Route
from portway.server.events.store import append_event, find_duplicate
from portway.server.events.submit import Submit
from portway.server.events.types import Accepted, Event, EventOutcome, NewEvent
from portway.server.runs.attempts import add_run
from portway.server.runs.ledger import add_steer
from portway.server.runs.pending import Arrival, QueuedRun
from portway.server.runs.types import Fence, NewRun, Run
from portway.server.storage_engine.clock import SECOND
from portway.server.storage_engine.transaction import ReadTransaction, Transaction
from portway.server.transcript.store import append_items
from portway.server.transcript.types import NewItem, Role

STEER_LIMIT = 16
BUSY_RETRY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Taken:
    """What the transaction did. `arrival` is set where the message goes into the executing `run`; `replaced` is a run
    that was fenced off, because its message is not what it was; `unsteered` a message that its run will not get."""

    accepted: Accepted
    run: QueuedRun | None = None
    arrival: Arrival | None = None
    replaced: Run | None = None
    delivery: Delivery | None = None
    unsteered: Event | None = None


class AcceptUnit:
    """Dedupe, conversation, event, transcript and run in one. Ids are made before it, because a unit may run twice."""

    def __init__(self, submit: Submit, route: Route) -> None:
        self._submit = submit
        self._route = route
        # One number for all that this event makes: each kind has a prefix of its own.
        self._event_id = new_id("evt")
        number = self._event_id.removeprefix("evt_")
        self._run_id = f"run_{number}"
        self._conversation_id = f"cnv_{number}"
        self._steering_id = f"str_{number}"
        self.refusal = ""
        self.refusal_text = ""
        self.busy = False
        self.steerable: Callable[[str, str], Fence | None] | None = None

    def __call__(self, tx: Transaction) -> Taken:
        submit = self._submit
        event = self._event()
        duplicate = find_duplicate(tx, event)
        if duplicate is not None:
            return Taken(duplicate)
        if self.busy:
            raise _busy(submit)
        agent = None if self.refusal else self._route.agent
        wanted = agent is not None or self.refusal_text or (submit.content and not self.refusal)
        place = self._enter(tx, agent) if wanted else None
        event = dataclasses.replace(event, conversation_id=place.conversation_id if place else "")
        steered = self._steered(tx, event, agent) if place else None
        if steered is not None:
            event = dataclasses.replace(event, outcome=EventOutcome.STEER, run_id=steered[0].run_id)
        elif agent is not None:
            event = dataclasses.replace(event, outcome=EventOutcome.RUN, run_id=self._run_id)
        accepted = append_event(tx, event)
        sequence = self._say(tx, event) if place and submit.content and not self.refusal else 0
        if submit.artifact_ids:
            attach_artifacts(
                tx,
                event.workspace_id,
                submit.artifact_ids,
                event_id=event.event_id,
                conversation_id=event.conversation_id,
            )
        if agent is None:
            return Taken(accepted, delivery=self._answer_refused(tx, event) if self.refusal_text else None)
        if steered is not None:
            fence, position = steered
            arrival = Arrival(self._steering_id, event.event_id, submit.payload, position)
            return Taken(accepted, self._queued(accepted, fence, agent, sequence), arrival)
        return Taken(accepted, self._queued(accepted, self._add_run(tx, accepted, agent), agent, sequence))

    def duplicate(self, tx: ReadTransaction) -> Accepted | None:
        """What an earlier submit with the same key led to. Raises Conflict when that was another event."""
        return find_duplicate(tx, self._event())

    def _event(self) -> NewEvent:
        submit, facts = self._submit, self._submit.facts
        return NewEvent(
            workspace_id=facts.workspace_id,
            event_id=self._event_id,
            source=facts.source,
            dedupe_key=submit.key,
            body_hash=submit.body_hash,
            type=facts.type,
            event_time=submit.event_time,
            payload=submit.payload,
            summary=submit.summary,
            actor_id=facts.actor_id,
            item_id=item_id_of(self._event_id) if submit.content and not self.refusal else "",
            provider_message_id=submit.provider_message_id,
            raw_ref=submit.raw_ref,
            outcome=EventOutcome.REFUSED if self.refusal else EventOutcome.RECORDED,
            outcome_reason=self.refusal,
            trace_id=submit.trace_id,
        )

    def _answer_refused(self, tx: Transaction, event: NewEvent) -> Delivery:
        """In the same unit: whoever is told is told once."""
        facts = dataclasses.replace(self._submit.facts, conversation_id=event.conversation_id)
        message = host_message(item_id_of(event.event_id), "REFUSED_BY_POLICY", self.refusal_text)
        return enqueue_delivery(tx, message_delivery(facts, message, kind="notice", event_id=event.event_id))

    def _enter(self, tx: Transaction, agent: Agent | None) -> Conversation:
        facts = self._submit.facts
        new = NewConversation(
            workspace_id=facts.workspace_id,
            conversation_id=facts.conversation_id or self._conversation_id,
            chat_key=facts.chat_key or f"id/{facts.conversation_id or self._conversation_id}",
            surface=facts.surface,
            bot_id=facts.bot_id,
            channel_id=facts.channel_id,
            launcher_type=facts.launcher_type,
            launcher_id=facts.launcher_id,
            thread_id=facts.thread_id,
            reply_target=facts.reply_target,
            title=self._submit.summary[:80],
        )
        if not facts.conversation_id:
            idle = round(agent.spec.conversation_idle_seconds * SECOND) if agent else 0
            return enter_chat(tx, new, idle)[0]
        try:
            return read_conversation(tx, facts.workspace_id, facts.conversation_id)
        except NotFound:
            # An id of our own form was given out by us, so a missing one is a mistake; others are the caller's choice.
            if has_prefix(facts.conversation_id, "cnv"):
                raise
            return begin_conversation(tx, new)

    def _steered(self, tx: Transaction, event: NewEvent, agent: Agent | None) -> tuple[Fence, int] | None:
        """The run that the message goes into and its place there; nothing where it becomes a run of its own."""
        fence = self.steerable(event.workspace_id, event.conversation_id) if self.steerable and agent else None
        if fence is None:
            return None
        try:
            return fence, add_steer(tx, fence, self._steering_id, event.event_id, event.payload, STEER_LIMIT)
        except (Stale, WrongState, LimitExceeded):
            return None

    def _say(self, tx: Transaction, event: NewEvent) -> int:
        facts = self._submit.facts
        item = NewItem(
            item_id=event.item_id,
            role=Role(self._submit.item_role),
            kind=self._submit.item_kind,
            text=facts.text or self._submit.summary,
            content=self._submit.content,
            thread_id=facts.thread_id,
            event_id=event.event_id,
            actor_id=facts.actor_id,
            actor_name=facts.actor_name,
            provider_message_id=event.provider_message_id,
        )
        return append_items(tx, event.workspace_id, event.conversation_id, [item])

    def _add_run(self, tx: Transaction, accepted: Accepted, agent: Agent) -> Fence:
        return add_run(
            tx,
            NewRun(
                workspace_id=agent.workspace_id,
                run_id=self._run_id,
                event_id=accepted.event_id,
                event_sequence=accepted.sequence,
                conversation_id=accepted.conversation_id,
                agent_id=agent.agent_id,
                agent_revision=agent.revision,
                binding_id=self._route.binding_id,
                runner_id=agent.spec.runner_id,
                queue_policy=self._submit.queue_policy or agent.spec.queue_policy,
                parent_run_id=self._submit.parent_run_id,
                trace_id=self._submit.trace_id,
            ),
        )

    def _queued(self, accepted: Accepted, fence: Fence, agent: Agent, item_sequence: int) -> QueuedRun:
        return QueuedRun(
            fence=fence,
            event_id=accepted.event_id,
            event_sequence=accepted.sequence,
            conversation_id=accepted.conversation_id,
            agent_id=agent.agent_id,
            item_sequence=item_sequence,
            payload=self._submit.payload,
            parent_run_id=self._submit.parent_run_id,
            trace_id=self._submit.trace_id,
            resolution=self._route.resolution,
            lane_id=self._submit.lane_id,
        )


def item_id_of(event_id: str) -> str:
    """The transcript item of an event's message."""
    return "msg_" + event_id.removeprefix("evt_")


def _busy(submit: Submit) -> WrongState:
    return WrongState(
        f"The conversation {submit.facts.conversation_id} has a run under way, and its agent takes one message at a "
        "time. Send the message again when the answer has come.",
        reason=Reason.CONVERSATION_BUSY,
        retry_after=BUSY_RETRY_SECONDS,
    )
