"""Effects are written before they are made; approvals are bound to what is approved."""

import asyncio
from dataclasses import replace
from functools import partial

import pytest

from portway.rpc.errors import Conflict, NotFound, Reason, Stale, WrongState
from portway.rpc.ids import new_id
from portway.server.approvals.store import (
    FIRST_PAGE,
    StoredApprovals,
    ask_approval,
    decide_approval,
    expire_approvals,
    withdraw_approvals,
)
from portway.server.approvals.types import Approval, ApprovalFilter, ApprovalState, NewApproval
from portway.server.effects.store import StoredEffects, finish_effect, plan_effect
from portway.server.effects.types import EffectState, Idempotency, NewEffect
from portway.server.runs.attempts import begin_attempt, request_cancel, requeue_run, settle_run
from portway.server.runs.types import Fence, RunState, Settlement
from portway.server.storage_engine.clock import SECOND, now
from portway.server.storage_engine.database import Database
from tests.contracts.store.given import WORKSPACE, an_attempt, an_executing_run


def a_call(call_id: str = "call_1", digest: bytes = b"exec rm") -> NewEffect:
    return NewEffect(
        effect_id=new_id("eff"),
        call_id=call_id,
        tool="exec",
        idempotency=Idempotency.NOT_IDEMPOTENT,
        digest=digest,
    )


def a_question(**more: str | int) -> NewApproval:
    new = NewApproval(
        approval_id=new_id("apr"),
        call_id="call_1",
        title="Run `make deploy`?",
        digest="d1",
        details=b"{}",
        approver="operators",
        expire_time=now() + 600 * SECOND,
    )
    return replace(new, **more)  # type: ignore[arg-type]


async def next_attempt(database: Database, fence: Fence) -> Fence:
    queued = await database.writer.run(lambda tx: requeue_run(tx, fence, "host.restarted"))
    return await database.writer.run(lambda tx: begin_attempt(tx, queued, database.epoch, an_attempt()))


async def test_a_finished_call_is_answered_from_the_ledger_in_the_next_attempt(database: Database) -> None:
    first = await an_executing_run(database)
    call = a_call()
    assert await database.writer.run(lambda tx: plan_effect(tx, first, call)) is None
    await database.writer.run(lambda tx: finish_effect(tx, WORKSPACE, call.effect_id, EffectState.DONE, b"output"))
    second = await next_attempt(database, first)
    earlier = await database.writer.run(lambda tx: plan_effect(tx, second, a_call()))
    assert earlier is not None
    assert (earlier.effect_id, earlier.state, earlier.result) == (call.effect_id, EffectState.DONE, b"output")


async def test_a_call_whose_end_was_never_written_is_left_to_reconcile(database: Database) -> None:
    first = await an_executing_run(database)
    call = a_call()
    await database.writer.run(lambda tx: plan_effect(tx, first, call))
    second = await next_attempt(database, first)
    (open_effect,) = await StoredEffects(database.reader).unfinished(WORKSPACE, second.run_id)
    assert (open_effect.effect_id, open_effect.attempt) == (call.effect_id, 1)
    await database.writer.run(lambda tx: finish_effect(tx, WORKSPACE, call.effect_id, EffectState.UNKNOWN))
    assert await StoredEffects(database.reader).unfinished(WORKSPACE, second.run_id) == []
    with pytest.raises(WrongState):
        await database.writer.run(lambda tx: finish_effect(tx, WORKSPACE, call.effect_id, EffectState.DONE))


async def test_one_call_id_is_one_call(database: Database) -> None:
    fence = await an_executing_run(database)
    planned = await asyncio.gather(
        *(database.writer.run(lambda tx: plan_effect(tx, fence, a_call())) for _ in range(20))
    )
    assert sum(earlier is None for earlier in planned) == 1
    with pytest.raises(Conflict):
        await database.writer.run(lambda tx: plan_effect(tx, fence, a_call(digest=b"another command")))
    assert len(await StoredEffects(database.reader).of_run(WORKSPACE, fence.run_id, 99)) == 1


async def test_a_superseded_attempt_plans_no_effect_and_asks_nothing(database: Database) -> None:
    old = await an_executing_run(database)
    await next_attempt(database, old)
    with pytest.raises(Stale):
        await database.writer.run(lambda tx: plan_effect(tx, old, a_call()))
    with pytest.raises(Stale):
        await database.writer.run(lambda tx: ask_approval(tx, old, a_question()))
    with pytest.raises(NotFound):
        await database.writer.run(lambda tx: finish_effect(tx, WORKSPACE, "eff_0", EffectState.DONE))


async def decided(database: Database, approval_id: str, digest: str, state: ApprovalState) -> Approval:
    return await database.writer.run(
        lambda tx: decide_approval(tx, WORKSPACE, approval_id, digest=digest, state=state, decided_by="ada")
    )


async def test_of_many_decisions_one_counts(database: Database) -> None:
    fence = await an_executing_run(database)
    question = a_question()
    await database.writer.run(lambda tx: ask_approval(tx, fence, question))
    answers = await asyncio.gather(
        *(
            decided(database, question.approval_id, "d1", state)
            for state in [ApprovalState.APPROVED, ApprovalState.DENIED] * 10
        ),
        return_exceptions=True,
    )
    won = [answer for answer in answers if isinstance(answer, Approval)]
    # Whoever wants the same as the first one hears that it is so; whoever wants the other is refused.
    assert len({answer.state for answer in won}) == 1 and len(won) == 10
    assert sum(isinstance(answer, Conflict) for answer in answers) == 10
    found = await StoredApprovals(database.reader).approval(WORKSPACE, question.approval_id)
    assert (found.state, found.decided_by) == (won[0].state, "ada")


async def test_a_decision_on_something_else_is_refused(database: Database) -> None:
    fence = await an_executing_run(database)
    question = a_question()
    await database.writer.run(lambda tx: ask_approval(tx, fence, question))
    with pytest.raises(WrongState) as refused:
        await decided(database, question.approval_id, "d2", ApprovalState.APPROVED)
    assert refused.value.reason == Reason.APPROVAL_STALE
    with pytest.raises(NotFound):
        await decided(database, "apr_0", "d1", ApprovalState.APPROVED)
    pending = ApprovalFilter(run_id=fence.run_id, pending_only=True)
    assert len(await StoredApprovals(database.reader).page(WORKSPACE, pending, FIRST_PAGE, 9)) == 1
    assert await StoredApprovals(database.reader).due() > 0


async def test_a_run_that_is_to_stop_is_given_nothing(database: Database) -> None:
    fence = await an_executing_run(database)
    question = a_question()
    await database.writer.run(lambda tx: ask_approval(tx, fence, question))
    await database.writer.run(lambda tx: request_cancel(tx, WORKSPACE, fence.run_id, "enough"))
    with pytest.raises(WrongState) as refused:
        await decided(database, question.approval_id, "d1", ApprovalState.APPROVED)
    assert refused.value.reason == Reason.APPROVAL_STALE


async def test_an_approval_ends_with_its_time_and_with_its_run(database: Database) -> None:
    fence = await an_executing_run(database)
    late, open_one = a_question(expire_time=1), a_question()
    for question in (late, open_one):
        await database.writer.run(partial(ask_approval, fence=fence, approval=question))
    with pytest.raises(WrongState) as refused:
        await decided(database, late.approval_id, "d1", ApprovalState.APPROVED)
    assert refused.value.reason == Reason.APPROVAL_EXPIRED
    expired = await database.writer.run(expire_approvals)
    assert [approval.approval_id for approval in expired] == [late.approval_id]
    await database.writer.run(lambda tx: settle_run(tx, fence, Settlement(state=RunState.CANCELLED)))
    assert len(await database.writer.run(lambda tx: withdraw_approvals(tx, WORKSPACE, fence.run_id))) == 1
    states = {a.approval_id: a.state for a in await StoredApprovals(database.reader).of_run(WORKSPACE, fence.run_id, 9)}
    assert states == {late.approval_id: ApprovalState.EXPIRED, open_one.approval_id: ApprovalState.WITHDRAWN}
