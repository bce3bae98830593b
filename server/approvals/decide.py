"""Decisions of people, each once, and what waits for them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from portway.rpc.errors import InvalidInput, NotFound
from portway.rpc.identity import Caller, Role
from portway.server.approvals.approvers import check_actor, check_caller
from portway.server.approvals.store import (
    Approvals,
    decide_approval,
    expire_approvals,
    read_approval,
    withdraw_approvals,
)
from portway.server.approvals.types import Approval, ApprovalState
from portway.server.audit.types import NewAuditRecord
from portway.server.deliveries.outbox import Outbox
from portway.server.deliveries.types import Delivery
from portway.server.events.accept_unit import AcceptUnit
from portway.server.events.guards import Audit
from portway.server.events.routing import Route
from portway.server.events.store import EventLog
from portway.server.events.submit import Submit
from portway.server.events.types import Accepted
from portway.server.events.wire import facts_of
from portway.server.interactions.answer import Given
from portway.server.interactions.close import Close, close_question
from portway.server.interactions.store import withdraw_interactions
from portway.server.interactions.types import Interaction
from portway.server.storage_engine.transaction import Transaction
from portway.server.storage_engine.writer import Writer
from portway.v1 import event_pb2, interaction_pb2

APPROVE, DENY = "approve", "deny"

_DECIDED = (ApprovalState.APPROVED, ApprovalState.DENIED)


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What nobody needs to answer any more."""

    approvals: list[Approval]
    questions: list[Interaction]
    edits: list[Delivery]


class Waiting:
    """Who waits for which approval, in this host: woken when it is decided here; whoever waits also looks by itself."""

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}
        self._counts: dict[str, int] = {}

    def join(self, approval_id: str) -> asyncio.Event:
        self._counts[approval_id] = self._counts.get(approval_id, 0) + 1
        return self._events.setdefault(approval_id, asyncio.Event())

    def leave(self, approval_id: str) -> None:
        self._counts[approval_id] -= 1
        if not self._counts[approval_id]:
            del self._counts[approval_id], self._events[approval_id]

    def wake(self, approval_id: str) -> None:
        event = self._events.get(approval_id)
        if event is not None:
            event.set()


class Decisions:
    """Decides, expires and withdraws approvals."""

    def __init__(
        self, writer: Writer, approvals: Approvals, events: EventLog, outbox: Outbox, audit: Audit, waiting: Waiting
    ) -> None:
        self._writer = writer
        self._approvals = approvals
        self._events = events
        self._outbox = outbox
        self._audit = audit
        self._waiting = waiting

    async def decide(self, caller: Caller, approval_id: str, *, approve: bool, digest: str, note: str) -> Approval:
        """A call of DecideApproval. Raises NotFound, NotPermitted, Conflict, WrongState (see `decide_approval`)."""
        approval = await self._approvals.approval(caller.workspace_id, approval_id)
        name = check_caller(caller, approval)
        state = ApprovalState.APPROVED if approve else ApprovalState.DENIED

        def unit(tx: Transaction) -> tuple[Approval, Delivery | None]:
            return _decide(tx, approval, state, digest, name, note)

        done = self._writer.submit(unit)
        done.add_done_callback(partial(self._decided, caller, name))
        return (await asyncio.shield(done))[0]

    async def click(self, caller: Caller, submit: Submit, given: Given) -> Accepted:
        """The question of an approval, answered in the chat: recorded as an event, and a decision.

        The approval's id stands for its digest: what was shown is what is decided. Raises NotFound, NotPermitted,
        InvalidInput, Conflict, WrongState.
        """
        approval = await self._approvals.approval(caller.workspace_id, given.answer.interaction_id)
        await self._check_place(caller, submit, approval)
        check_actor(given.actor_id, approval)
        if given.answer.action_id not in (APPROVE, DENY):
            raise InvalidInput.field("event.interaction.action_id", f"is {APPROVE!r} or {DENY!r}")
        state = ApprovalState.APPROVED if given.answer.action_id == APPROVE else ApprovalState.DENIED
        accept = AcceptUnit(submit, Route(None))

        def unit(tx: Transaction) -> tuple[Accepted, Approval, Delivery | None]:
            accepted = accept(tx).accepted
            if accepted.duplicate:
                return accepted, read_approval(tx, approval.workspace_id, approval.approval_id), None
            decided, edit = _decide(tx, approval, state, approval.digest, given.actor_id, "")
            return accepted, decided, edit

        done = self._writer.submit(unit)
        done.add_done_callback(partial(self._clicked, caller, given.actor_id))
        return (await asyncio.shield(done))[0]

    async def expire_due(self) -> int:
        """Close those whose time is over; answers how many."""
        closed, edits = await asyncio.shield(self._writer.submit(_expire))
        self._woken(closed, edits)
        return len(closed)

    def withdraw(self, tx: Transaction, workspace_id: str, run_id: str, questions_too: bool) -> Withdrawn:
        """In the unit that ends a run: nobody needs to decide any more, nor to answer where it was cancelled."""
        approvals = withdraw_approvals(tx, workspace_id, run_id)
        questions = withdraw_interactions(tx, workspace_id, run_id) if questions_too else []
        close = Close(interaction_pb2.INTERACTION_STATE_WITHDRAWN)
        edits = [close_question(tx, one, close) for one in approvals]
        edits += [close_question(tx, one, close) for one in questions]
        return Withdrawn(approvals, questions, [edit for edit in edits if edit is not None])

    def withdrawn(self, withdrawn: Withdrawn) -> None:
        """After its commit."""
        self._woken(withdrawn.approvals, withdrawn.edits)

    async def _check_place(self, caller: Caller, submit: Submit, approval: Approval) -> None:
        if caller.role is not Role.ADAPTER:
            return
        asking = await self._events.event(approval.workspace_id, approval.event_id)
        there = facts_of(event_pb2.Event.FromString(asking.payload), approval.workspace_id)
        here = submit.facts
        same = (here.surface, here.bot_id) == (there.surface, there.bot_id) and (
            here.conversation_id == approval.conversation_id
            if here.conversation_id
            else bool(here.chat_key) and here.chat_key == there.chat_key
        )
        if not same:
            raise NotFound.of("approval", approval.approval_id)

    def _decided(self, caller: Caller, name: str, done: "asyncio.Future[tuple[Approval, Delivery | None]]") -> None:
        # Not after the wait: the run goes on also where whoever decided has gone away.
        if not done.cancelled() and done.exception() is None:
            decided, edit = done.result()
            self._tell(caller, decided, name, edit)

    def _clicked(
        self, caller: Caller, actor_id: str, done: "asyncio.Future[tuple[Accepted, Approval, Delivery | None]]"
    ) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        accepted, decided, edit = done.result()
        if not accepted.duplicate:
            self._tell(caller, decided, actor_id, edit)

    def _tell(self, caller: Caller, approval: Approval, name: str, edit: Delivery | None) -> None:
        self._woken([approval], [edit] if edit is not None else [])
        self._audit.record(
            NewAuditRecord(
                workspace_id=approval.workspace_id,
                action="approval.decide",
                resource=f"approval {approval.approval_id}",
                allowed=True,
                reason=approval.state.value,
                role=caller.role.name.lower(),
                subject=name,
                token_id=caller.token_id,
                run_id=approval.run_id,
            )
        )

    def _woken(self, approvals: Sequence[Approval], edits: Sequence[Delivery]) -> None:
        for approval in approvals:
            self._waiting.wake(approval.approval_id)
        for edit in edits:
            self._outbox.wake(edit)


def _decide(
    tx: Transaction, approval: Approval, state: ApprovalState, digest: str, name: str, note: str
) -> tuple[Approval, Delivery | None]:
    before = read_approval(tx, approval.workspace_id, approval.approval_id)
    decided = decide_approval(
        tx, approval.workspace_id, approval.approval_id, digest=digest, state=state, decided_by=name, note=note
    )
    if before.state is not ApprovalState.PENDING:
        return decided, None
    answer = interaction_pb2.InteractionAnswer(
        interaction_id=decided.approval_id,
        run_id=decided.run_id,
        action_id=APPROVE if state is ApprovalState.APPROVED else DENY,
        actor_id=name,
    )
    return decided, close_question(tx, decided, Close(interaction_pb2.INTERACTION_STATE_ANSWERED, answer))


def _expire(tx: Transaction) -> tuple[list[Approval], list[Delivery]]:
    closed = expire_approvals(tx)
    close = Close(interaction_pb2.INTERACTION_STATE_EXPIRED)
    edits = [close_question(tx, one, close) for one in closed]
    return closed, [edit for edit in edits if edit is not None]
