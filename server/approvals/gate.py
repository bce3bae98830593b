"""The gate in front of what a person must allow: waits live, with the run's clock stopped.

The approval is bound to a digest of exactly what is to be done, under exactly this revision of the agent's policies. It
is on disk before anybody is asked, and so is the decision before anything is done: after a restart an attempt that asks
for the same finds it, pending or decided.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from portway.rpc.errors import LimitExceeded, NotPermitted, PortwayError, Reason, WrongState
from portway.rpc.ids import new_id
from portway.server.approvals.approvers import approvers_of
from portway.server.approvals.decide import Decisions, Waiting
from portway.server.approvals.show import question_of, shows_in_chat, waiting_text
from portway.server.approvals.store import Approvals, ask_approval, withdraw_one
from portway.server.approvals.types import Approval, ApprovalState, NewApproval
from portway.server.approvals.wire import approval_message, state_number
from portway.server.interactions.close import Close, close_question
from portway.server.runner_calls.scope import RunScope
from portway.server.runs.attempts import set_deadline, set_waiting
from portway.server.storage_engine.clock import SECOND, now
from portway.server.storage_engine.documents import to_json
from portway.server.storage_engine.transaction import Transaction
from portway.server.transcript.types import Role
from portway.v1 import interaction_pb2, run_agent_pb2, run_pb2

# Whoever waits looks by itself as well: the decision may be made by another host.
LOOK_AGAIN_SECONDS = 5.0
READ = 1_000
WAITING_CODE = "approval.waiting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be done. `kind`: `tool`, `command` or `action`; `arguments` hold no secret, people see them.

    `call_id` is the caller's own id of it; the digest covers everything else.
    """

    kind: str
    name: str
    call_id: str
    title: str
    arguments: Mapping[str, object]


class ApprovalGate:
    """`ask` returns when a person has allowed it."""

    def __init__(self, approvals: Approvals, decisions: Decisions, waiting: Waiting) -> None:
        self._approvals = approvals
        self._decisions = decisions
        self._waiting = waiting

    async def ask(self, run: RunScope, wanted: Wanted) -> str:
        """Answers the approval's id.

        Raises NotPermitted (APPROVAL_DENIED), WrongState (APPROVAL_EXPIRED), LimitExceeded (it has waited for days).
        """
        run.check_alive()
        digest = digest_of(run, wanted)
        known = run.allowed.get((wanted.call_id, digest))
        if known is not None:
            # The same call again.
            return known
        approval = await self._earlier(run, digest, wanted.call_id)
        if approval is None:
            approval = await self._new(run, wanted, digest)
        elif approval.state is ApprovalState.PENDING:
            await self._pause(run, approval, [])
        else:
            self._note(run, approval)
            return _allowed(run, approval, wanted.call_id)
        return _allowed(run, await self._wait(run, approval, wanted.call_id), wanted.call_id)

    async def _earlier(self, run: RunScope, digest: str, call_id: str) -> Approval | None:
        """What an earlier attempt was given, or still waits for: each counts for one call of this attempt."""
        if run.fence.attempt < 2:
            return None
        found = [
            one
            for one in await self._approvals.of_run(run.workspace_id, run.run_id, READ)
            if one.digest == digest and one.attempt < run.fence.attempt and one.approval_id not in run.approvals
        ]
        if not found:
            return None
        chosen = next((one for one in found if one.call_id == call_id), found[0])
        run.approvals.add(chosen.approval_id)
        return chosen

    async def _new(self, run: RunScope, wanted: Wanted, digest: str) -> Approval:
        stage, policy = run.on_stage, run.snapshot.spec.approval_policy
        if stage.may_pause() < policy.time_limit_seconds:
            raise LimitExceeded("the run has waited for people as long as a run may; begin a new one")
        approvers = approvers_of(policy, run.facts.actor_id)
        new = NewApproval(
            approval_id=new_id("apr"),
            call_id=wanted.call_id,
            title=wanted.title,
            digest=digest,
            details=json.dumps(_details(run, wanted), ensure_ascii=False).encode(),
            approver=to_json(approvers),
            expire_time=now() + round(policy.time_limit_seconds * SECOND),
            conversation_id=run.conversation_id,
            agent_id=run.snapshot.agent_id,
            event_id=run.event_id,
        )
        return await self._pause(run, _pending(run, new), [new])

    async def _pause(self, run: RunScope, approval: Approval, new: list[NewApproval]) -> Approval:
        """Stop the clock and say so, everything in one unit. `new`: it is asked for the first time."""
        stage = run.on_stage
        first = stage.pause()
        try:
            stage.flush()
            if first:
                changed = run_pb2.RunStateChanged(state=run_pb2.RUN_STATE_WAITING, reason=approval.title[:1000])
                stage.journal.append("state_changed", run_pb2.RunEvent(state_changed=changed))
                stage.journal.also(lambda tx: set_waiting(tx, run.fence, True))
            for one in new:
                approval = self._show(run, approval, one)
            stage.flush()
            await stage.journal.settled()
        except BaseException:
            stage.resume()
            raise
        run.approvals.add(approval.approval_id)
        self._frame(run, approval, approval.call_id)
        return approval

    def _show(self, run: RunScope, approval: Approval, new: NewApproval) -> Approval:
        """Ledger, transcript, chat and the approval itself."""
        stage = run.on_stage
        requested = run_pb2.RunApprovalRequested(approval=approval_message(approval))
        stage.journal.append("approval_requested", run_pb2.RunEvent(approval_requested=requested))
        item_id = delivery_id = ""
        if shows_in_chat(stage.surface, new, run.facts.delivers):
            item_id, delivery_id = stage.voice.ask(question_of(approval), Role.SYSTEM)
        elif not run.told_waiting:
            run.told_waiting = True
            stage.voice.tell(WAITING_CODE, waiting_text(stage.addressee.spec))
        kept = replace(new, item_id=item_id, delivery_id=delivery_id)
        stage.journal.also(lambda tx: ask_approval(tx, run.fence, kept))
        return _pending(run, kept)

    async def _wait(self, run: RunScope, approval: Approval, call_id: str) -> Approval:
        decided = approval
        try:
            decided = await self._decided(approval)
        finally:
            # Also where the call is cancelled; but a host that only stops leaves the question to the next start.
            self._go_on(run, decided, call_id)
        await run.on_stage.journal.settled()
        return decided

    async def _decided(self, approval: Approval) -> Approval:
        event = self._waiting.join(approval.approval_id)
        try:
            while True:
                approval = await self._approvals.approval(approval.workspace_id, approval.approval_id)
                if approval.state is not ApprovalState.PENDING:
                    return approval
                left = (approval.expire_time - now()) / SECOND
                if left <= 0:
                    await self._decisions.expire_due()
                    continue
                try:
                    async with asyncio.timeout(min(left, LOOK_AGAIN_SECONDS)):
                        await event.wait()
                except TimeoutError:
                    continue
        finally:
            self._waiting.leave(approval.approval_id)

    def _go_on(self, run: RunScope, approval: Approval, call_id: str) -> None:
        """The clock runs again, and everybody is told."""
        stage = run.on_stage
        deadline = stage.resume()
        if stage.is_left() and approval.state is ApprovalState.PENDING:
            return
        if approval.state is ApprovalState.PENDING:
            # The call was given up before anybody decided.
            given_up = approval
            stage.journal.also(lambda tx: _given_up(tx, given_up))
            approval = replace(approval, state=ApprovalState.WITHDRAWN)
        self._note(run, approval)
        if deadline:
            changed = run_pb2.RunStateChanged(state=run_pb2.RUN_STATE_RUNNING, reason=f"approval {approval.state}")
            stage.journal.append("state_changed", run_pb2.RunEvent(state_changed=changed))
            stage.journal.also(lambda tx: _resumed(tx, run, deadline))
        stage.flush()
        self._frame(run, approval, call_id)

    def _note(self, run: RunScope, approval: Approval) -> None:
        decided = run_pb2.RunApprovalDecided(approval=approval_message(approval))
        run.on_stage.journal.append("approval_decided", run_pb2.RunEvent(approval_decided=decided))

    def _frame(self, run: RunScope, approval: Approval, call_id: str) -> None:
        told = run_agent_pb2.RunApproval(
            approval_id=approval.approval_id, call_id=call_id, state=state_number(approval.state), note=approval.note
        )
        run.on_stage.tell(run_agent_pb2.RunInputFrame(approval=told))


def digest_of(run: RunScope, wanted: Wanted) -> str:
    """SHA-256 over what is to be done, where, and under which revision of the agent's policies; hex."""
    box = run.snapshot.spec.box_policy
    covered = {
        "kind": wanted.kind,
        "name": wanted.name,
        "arguments": wanted.arguments,
        "agent": run.snapshot.agent_id,
        "agent_revision": run.snapshot.agent_revision,
        "session": run.snapshot.session_id,
        "profile": box.profile,
        "network": [box.network.mode, *box.network.allow],
        "read_only": box.read_only,
        # Said only where there is one, so that approvals from before images still stand.
        **({"image": box.image} if box.image else {}),
        **({"mounts": [[one.source, one.target, one.writable] for one in box.mounts]} if box.mounts else {}),
    }
    text = json.dumps(covered, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _details(run: RunScope, wanted: Wanted) -> dict[str, object]:
    details: dict[str, object] = {"kind": wanted.kind, "name": wanted.name, "arguments": wanted.arguments}
    if wanted.kind != "action" and run.snapshot.session_id:
        details["profile"] = run.snapshot.spec.box_policy.profile
        details["session"] = run.snapshot.session_id
    return details


def _allowed(run: RunScope, approval: Approval, call_id: str) -> str:
    refusal = _refusal(approval)
    if refusal is not None:
        run.refuse("approval", approval.title[:200], approval.state.value)
        raise refusal
    run.allowed[call_id, approval.digest] = approval.approval_id
    return approval.approval_id


def _refusal(approval: Approval) -> PortwayError | None:
    note = f" They say: {approval.note}" if approval.note else ""
    match approval.state:
        case ApprovalState.APPROVED:
            return None
        case ApprovalState.DENIED:
            return NotPermitted(
                f"A person refused it: {approval.title}.{note} It was not done; do not try it again unasked.",
                reason=Reason.APPROVAL_DENIED,
            )
        case ApprovalState.EXPIRED | ApprovalState.PENDING:
            return WrongState(
                f"Nobody approved it in time: {approval.title}. It was not done.", reason=Reason.APPROVAL_EXPIRED
            )
        case ApprovalState.WITHDRAWN:
            return WrongState(f"It was given up: {approval.title}. It was not done.", reason=Reason.APPROVAL_STALE)


def _pending(run: RunScope, new: NewApproval) -> Approval:
    return Approval(
        workspace_id=run.workspace_id,
        approval_id=new.approval_id,
        run_id=run.run_id,
        attempt=run.fence.attempt,
        call_id=new.call_id,
        title=new.title,
        digest=new.digest,
        details=new.details,
        approver=new.approver,
        expire_time=new.expire_time,
        state=ApprovalState.PENDING,
        decided_by="",
        note="",
        create_time=now(),
        decide_time=0,
        conversation_id=new.conversation_id,
        agent_id=new.agent_id,
        event_id=new.event_id,
        item_id=new.item_id,
        delivery_id=new.delivery_id,
    )


def _given_up(tx: Transaction, approval: Approval) -> None:
    if withdraw_one(tx, approval.workspace_id, approval.approval_id):
        close_question(tx, approval, Close(interaction_pb2.INTERACTION_STATE_WITHDRAWN))


def _resumed(tx: Transaction, run: RunScope, deadline: int) -> None:
    set_waiting(tx, run.fence, False)
    set_deadline(tx, run.fence, deadline)
