"""The one transaction that accepts an edit or a recall: transcript, the run of the old message, and the new one."""

import dataclasses

from portway.rpc.errors import LimitExceeded, NotFound, Stale, WrongState
from portway.server.agents.types import EditPolicy
from portway.server.events.accept_unit import STEER_LIMIT, AcceptUnit, Taken, item_id_of
from portway.server.events.amendments import EDITED, RECALLED, Amendment
from portway.server.events.facts import RECALL
from portway.server.events.routing import Route
from portway.server.events.store import append_event, find_duplicate, find_later_amendment
from portway.server.events.submit import Submit
from portway.server.events.types import Event, EventOutcome, NewEvent
from portway.server.runs.attempts import fence_off, request_cancel
from portway.server.runs.ledger import add_steer, has_spoken, withdraw_steer
from portway.server.runs.pending import Arrival
from portway.server.runs.store import read_run
from portway.server.runs.types import Run, RunState
from portway.server.storage_engine.transaction import Transaction
from portway.server.transcript.store import redact_item, replace_item


class AmendUnit(AcceptUnit):
    """What is decided here is decided by what is on disk: a run that has answered stays as it is."""

    def __init__(self, submit: Submit, route: Route, amendment: Amendment) -> None:
        super().__init__(submit, route)
        self._amendment = amendment

    def __call__(self, tx: Transaction) -> Taken:
        # It has no item of its own: it changes the one of its message.
        event = dataclasses.replace(self._event(), item_id="")
        duplicate = find_duplicate(tx, event)
        if duplicate is not None:
            return Taken(duplicate)
        original = self._amendment.original
        why_not = self.refusal or self._why_not(tx, event, original)
        if original is None or why_not:
            reason = why_not or "the message that it is about is not known"
            return Taken(append_event(tx, dataclasses.replace(event, outcome_reason=reason)))
        item_id = original.item_id or item_id_of(original.event_id)
        event = dataclasses.replace(event, conversation_id=original.conversation_id, item_id=item_id)
        self._rewrite(tx, item_id)
        return self._follow(tx, event, original)

    def _why_not(self, tx: Transaction, event: NewEvent, original: Event | None) -> str:
        """Why nothing is changed; '' where it is."""
        if original is None:
            return ""
        if event.source != original.source:
            return f"the message came from {original.source}, this from {event.source}"
        recall = event.type == RECALL
        if not recall and event.actor_id and original.actor_id and event.actor_id != original.actor_id:
            return "the message is of another sender"
        if not recall and not self._submit.content:
            return "it says nothing that could stand in place of the message"
        later = find_later_amendment(tx, event, original)
        return f"{later} came before it and is newer" if later else ""

    def _rewrite(self, tx: Transaction, item_id: str) -> None:
        workspace_id = self._submit.facts.workspace_id
        try:
            if self._submit.facts.type == RECALL:
                redact_item(tx, workspace_id, item_id)
            else:
                replace_item(tx, workspace_id, item_id, self._submit.facts.text, self._submit.content)
        except NotFound:
            # It was removed by retention or erasure since.
            return

    def _follow(self, tx: Transaction, event: NewEvent, original: Event) -> Taken:
        if self._route.agent is not None:
            # Somebody listens to edits as such.
            return self._begin(tx, event)
        run = self._unanswered(tx, original)
        policy = self._amendment.policy
        steered = original.outcome is EventOutcome.STEER
        if run is not None and steered and event.type == RECALL:
            return self._unsteer(tx, event, original)
        if run is None or policy is EditPolicy.IGNORE:
            why = "its agent takes no edits" if run is not None else "the message was answered, or nobody answers it"
            return Taken(append_event(tx, dataclasses.replace(event, outcome_reason=why)))
        if event.type == RECALL:
            event = dataclasses.replace(event, outcome_reason=f"it cancels the run {run.run_id}")
            accepted = append_event(tx, event)
            return Taken(accepted, replaced=self._give_up(tx, run, RECALLED))
        # A message that went into the run of another does not end that one.
        if (policy is EditPolicy.STEER or steered) and run.state is not RunState.QUEUED:
            return self._steer(tx, event, run)
        why = f"it takes the place of the run {run.run_id}"
        taken = self._begin(tx, dataclasses.replace(event, outcome_reason=why))
        return dataclasses.replace(taken, replaced=self._give_up(tx, run, EDITED))

    def _unanswered(self, tx: Transaction, original: Event) -> Run | None:
        """The run of the message, while people have nothing of it yet."""
        if not original.run_id:
            return None
        try:
            run = read_run(tx, original.workspace_id, original.run_id)
        except NotFound:
            return None
        return None if run.state.final or has_spoken(tx, run.workspace_id, run.run_id) else run

    def _begin(self, tx: Transaction, event: NewEvent) -> Taken:
        agent = self._route.agent or self._amendment.agent
        if agent is None:
            return Taken(append_event(tx, event))
        event = dataclasses.replace(event, outcome=EventOutcome.RUN, run_id=self._run_id)
        accepted = append_event(tx, event)
        return Taken(accepted, self._queued(accepted, self._add_run(tx, accepted, agent), agent, 0))

    def _steer(self, tx: Transaction, event: NewEvent, run: Run) -> Taken:
        agent = self._amendment.agent
        fence = self.steerable(run.workspace_id, run.conversation_id) if self.steerable else None
        why = "its run takes no messages now"
        if agent is not None and fence is not None and fence.run_id == run.run_id:
            try:
                position = add_steer(tx, fence, self._steering_id, event.event_id, event.payload, STEER_LIMIT)
            except (Stale, WrongState, LimitExceeded) as error:
                why = error.message
            else:
                event = dataclasses.replace(event, outcome=EventOutcome.STEER, run_id=run.run_id)
                accepted = append_event(tx, event)
                arrival = Arrival(self._steering_id, event.event_id, event.payload, position)
                return Taken(accepted, self._queued(accepted, fence, agent, 0), arrival)
        return Taken(append_event(tx, dataclasses.replace(event, outcome_reason=why)))

    def _unsteer(self, tx: Transaction, event: NewEvent, original: Event) -> Taken:
        """The run is of another message and goes on, without this one where it has not taken it yet."""
        gone = withdraw_steer(tx, original.workspace_id, original.run_id, original.event_id)
        why = f"it is withdrawn from the run {original.run_id}" if gone else "its run has taken the message already"
        accepted = append_event(tx, dataclasses.replace(event, outcome_reason=why))
        return Taken(accepted, unsteered=original if gone else None)

    def _give_up(self, tx: Transaction, run: Run, reason: str) -> Run:
        """Fenced off in this very transaction: whatever it still says is refused, so that there is one answer."""
        request_cancel(tx, run.workspace_id, run.run_id, reason)
        fence_off(tx, run.fence, reason)
        return run
