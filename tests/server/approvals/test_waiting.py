"""A run waits live for a person: with its clock stopped, for exactly what was shown, and for nobody's click but one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from portway.rpc.channel import open_channel
from portway.rpc.errors import Conflict, NotPermitted, PortwayError, Reason, WrongState
from portway.rpc.status import errors_by_meaning
from portway.server.agents.types import ApprovalPolicy, BoxPolicy, InterruptedPolicy, NoticeTexts, ResourcePolicy
from portway.server.config import HostLimits
from portway.server.storage_engine.clock import now
from portway.v1 import run_pb2, run_pb2_grpc
from tests.deciding import (
    APPROVED,
    EXPIRED,
    PENDING,
    WITHDRAWN,
    approvals,
    command_of,
    decide,
    done,
    execute,
    one_pending,
)
from tests.fakes.box_server import FakeBox, serve_fake_box
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.callers import calling_as, make_token
from tests.server.hosting import Hosted, a_message, hosted
from tests.waiting import until, until_told

FATAL = "rm -rf /srv/data"
CAREFUL = BoxPolicy(tools=("*",), approved_commands=("^rm ",))


@asynccontextmanager
async def careful(folder: Path, runtime: FakeRuntime, box: FakeBox, **spec: Any) -> AsyncIterator[Hosted]:
    """A host whose agent asks before it removes anything."""
    async with hosted(folder, runtime, box=box, limits=HostLimits(drain=0.05, stop_grace=0.3)) as host:
        await host.set_agent(**{"box_policy": CAREFUL, **spec})
        await until(lambda: host.parts.box_link.availability().available)
        yield host


@pytest.fixture
async def box() -> AsyncIterator[FakeBox]:
    fake = FakeBox()
    fake.will_run(FATAL, done("gone"))
    async with serve_fake_box(fake):
        yield fake


class Removing:
    """A runner that removes and says what came of it."""

    def __init__(self, *commands: str) -> None:
        self.commands = commands or (FATAL,)
        self.outcomes: list[Any] = []

    async def __call__(self, run: FakeRun) -> None:
        for number, command in enumerate(self.commands):
            answer = (await run.ask_all("call_tool", execute(command, f"c{number}")))[-1]
            self.outcomes.append(answer.error if answer.HasField("error") else answer.call_tool.result.text)
        await run.answer("done")


def kinds(events: list[run_pb2.RunEvent]) -> list[str]:
    found = []
    for event in events:
        kind = event.WhichOneof("kind") or ""
        found.append(run_pb2.RunState.Name(event.state_changed.state) if kind == "state_changed" else kind)
    return found


async def test_what_is_approved_is_done_and_everybody_saw_it_wait(
    tmp_path: Path, runtime: FakeRuntime, box: FakeBox
) -> None:
    runtime.script = script = Removing()
    async with careful(tmp_path, runtime, box, notices=NoticeTexts(waiting={"en": "Hold on."})) as host:
        accepted = await host.submit()
        approval = await one_pending(host.runs)
        assert (await host.run(accepted.run_id)).state == run_pb2.RUN_STATE_WAITING
        assert command_of(approval) == FATAL and approval.call_id == "c0"
        assert approval.run_id == accepted.run_id and approval.conversation_id == accepted.conversation_id
        assert not box.ran
        decided = await decide(host.runs, approval, note="go ahead")
        assert decided.state == APPROVED and decided.decided_by == "admin"
        assert (await decide(host.runs, approval, note="once more")).note == "go ahead"
        run = await host.ended(accepted.run_id)
        assert run.state == run_pb2.RUN_STATE_COMPLETED and box.ran == [FATAL]
        assert script.outcomes[0].startswith("exit code 0")
        assert kinds(await host.watch(accepted.run_id, committed_only=True)) == [
            "RUN_STATE_RUNNING",
            "RUN_STATE_WAITING",
            "approval_requested",
            "notice",
            "approval_decided",
            "RUN_STATE_RUNNING",
            "message_completed",
            "run_completed",
        ]
        told = [(one.state, one.note) for one in runtime.runs[0].approvals]
        assert told == [(PENDING, ""), (APPROVED, "go ahead")]
        assert [item.text for item in await host.transcript(accepted.conversation_id)] == ["hi", "Hold on.", "done"]


async def test_what_is_refused_is_not_done_and_the_runner_is_told_why(
    tmp_path: Path, runtime: FakeRuntime, box: FakeBox
) -> None:
    runtime.script = script = Removing()
    async with careful(tmp_path, runtime, box) as host:
        accepted = await host.submit()
        await decide(host.runs, await one_pending(host.runs), approve=False, note="not on a Friday")
        await host.ended(accepted.run_id)
        (error,) = script.outcomes
        assert error.reason == Reason.APPROVAL_DENIED and error.code == 7 and "not on a Friday" in error.message
        with pytest.raises(Conflict):
            await decide(host.runs, (await approvals(host.runs))[0], approve=True)
    assert not box.ran


async def test_time_that_a_person_takes_does_not_count(tmp_path: Path, runtime: FakeRuntime, box: FakeBox) -> None:
    runtime.script = Removing()
    async with careful(tmp_path, runtime, box, timeout_seconds=0.4) as host:
        accepted = await host.submit()
        approval = await one_pending(host.runs)
        before = (await host.parts.stores.runs.run("default", accepted.run_id)).deadline
        attempt = host.parts.live.of_run("default", accepted.run_id)
        left = attempt.scope.time_left()
        # The deadline that the run had is over: what is waited for is time itself.
        await until(lambda: now() > before)
        assert attempt.stop is None
        decided_at = now()
        await decide(host.runs, approval)
        run = await host.ended(accepted.run_id)
        assert run.state == run_pb2.RUN_STATE_COMPLETED and box.ran == [FATAL]
        assert attempt.scope.time_left() > left - 0.5
        assert (await host.parts.stores.runs.run("default", accepted.run_id)).deadline > decided_at


async def test_a_run_whose_time_is_over_after_the_wait_still_ends(
    tmp_path: Path, runtime: FakeRuntime, box: FakeBox
) -> None:
    async def script(run: FakeRun) -> None:
        await run.ask_all("call_tool", execute(FATAL))
        await run.cancelled.wait()
        await run.send(run.result(run_failed={"error": {"code": "cancelled"}}))

    runtime.script = script
    async with careful(tmp_path, runtime, box, timeout_seconds=0.3) as host:
        accepted = await host.submit()
        await decide(host.runs, await one_pending(host.runs))
        assert (await host.ended(accepted.run_id)).error.code == "runner.timeout"


async def test_nobody_decides_in_time(tmp_path: Path, runtime: FakeRuntime, box: FakeBox) -> None:
    runtime.script = script = Removing()
    async with careful(tmp_path, runtime, box, approval_policy=ApprovalPolicy(time_limit_seconds=0.2)) as host:
        accepted = await host.submit()
        run = await host.ended(accepted.run_id)
        assert run.state == run_pb2.RUN_STATE_COMPLETED
        assert script.outcomes[0].reason == Reason.APPROVAL_EXPIRED
        (late,) = await approvals(host.runs, run_id=accepted.run_id)
        assert late.state == EXPIRED
        with pytest.raises(WrongState) as refused:
            await decide(host.runs, late)
        assert refused.value.reason == Reason.APPROVAL_EXPIRED
    assert not box.ran


async def test_a_cancel_withdraws_what_waits(tmp_path: Path, runtime: FakeRuntime, box: FakeBox) -> None:
    async def script(run: FakeRun) -> None:
        calling = asyncio.ensure_future(run.ask_all("call_tool", execute(FATAL)))
        await run.cancelled.wait()
        await run.send(run.result(run_failed={"error": {"code": "cancelled"}}))
        calling.cancel()

    runtime.script = script
    async with careful(tmp_path, runtime, box) as host:
        accepted = await host.submit()
        approval = await one_pending(host.runs)
        with errors_by_meaning():
            cancelled = await host.runs.CancelRun(run_pb2.CancelRunRequest(run_id=accepted.run_id))
        assert cancelled.run.state == run_pb2.RUN_STATE_CANCELLED
        assert (await approvals(host.runs))[0].state == WITHDRAWN
        with pytest.raises(WrongState) as refused:
            await decide(host.runs, approval)
        assert refused.value.reason == Reason.APPROVAL_STALE
    assert not box.ran


async def test_a_call_that_is_given_up_withdraws_its_approval_and_the_run_goes_on(
    tmp_path: Path, runtime: FakeRuntime, box: FakeBox
) -> None:
    async def script(run: FakeRun) -> None:
        calling = asyncio.ensure_future(run.ask_all("call_tool", execute(FATAL)))
        await until(lambda: bool(run.approvals))
        await run.cancel_call(1)
        assert (await calling)[-1].error.reason == Reason.CANCELLED
        await run.answer("never mind")

    runtime.script = script
    async with careful(tmp_path, runtime, box) as host:
        run = await host.asked()
        assert run.state == run_pb2.RUN_STATE_COMPLETED
        (given_up,) = await approvals(host.runs)
        assert given_up.state == WITHDRAWN
        last = kinds(await host.watch(run.run_id, committed_only=True))[-4:]
        assert last == ["approval_decided", "RUN_STATE_RUNNING", "message_completed", "run_completed"]


async def outcomes(*decisions: Any) -> tuple[list[Any], list[PortwayError]]:
    given = await asyncio.gather(*decisions, return_exceptions=True)
    return (
        [one for one in given if not isinstance(one, BaseException)],
        [one for one in given if isinstance(one, PortwayError)],
    )


@pytest.mark.parametrize("number", range(5))
async def test_two_deciders_at_once(tmp_path: Path, runtime: FakeRuntime, box: FakeBox, number: int) -> None:
    runtime.script = script = Removing()
    async with careful(tmp_path, runtime, box) as host:
        accepted = await host.submit()
        approval = await one_pending(host.runs)
        won, lost = await outcomes(*(decide(host.runs, approval, approve=(n + number) % 2 == 0) for n in range(6)))
        assert len(won) == 3 and len(lost) == 3 and len({one.state for one in won}) == 1
        await host.ended(accepted.run_id)
        assert box.ran == ([FATAL] if won[0].state == APPROVED else [])
        assert isinstance(script.outcomes[0], str) == (won[0].state == APPROVED)


@pytest.mark.parametrize("number", range(5))
async def test_a_decision_and_a_cancel_at_once(tmp_path: Path, runtime: FakeRuntime, box: FakeBox, number: int) -> None:
    async def script(run: FakeRun) -> None:
        calling = asyncio.ensure_future(run.ask_all("call_tool", execute(FATAL)))
        await run.cancelled.wait()
        await run.send(run.result(run_failed={"error": {"code": "cancelled"}}))
        calling.cancel()

    runtime.script = script
    async with careful(tmp_path, runtime, box) as host:
        accepted = await host.submit()
        approval = await one_pending(host.runs)
        cancel = host.runs.CancelRun(run_pb2.CancelRunRequest(run_id=accepted.run_id))
        both = [decide(host.runs, approval), cancel]
        await asyncio.gather(*(both if number % 2 else reversed(both)), return_exceptions=True)
        run = await host.ended(accepted.run_id)
        assert run.state == run_pb2.RUN_STATE_CANCELLED
        (after,) = await approvals(host.runs)
        assert after.state in (APPROVED, WITHDRAWN)
        # What was withdrawn never ran; what was approved ran once at most.
        assert len(box.ran) <= (after.state == APPROVED)


@pytest.mark.parametrize("early", [60_000, 30_000, 2_000, 0])
async def test_a_decision_and_the_expiry_at_once(
    tmp_path: Path, runtime: FakeRuntime, box: FakeBox, early: int
) -> None:
    runtime.script = script = Removing()
    policy = ApprovalPolicy(time_limit_seconds=0.25)
    async with careful(tmp_path, runtime, box, approval_policy=policy) as host:
        accepted = await host.submit()
        approval = await one_pending(host.runs)
        moment = approval.expire_time.ToMicroseconds() - early
        await until(lambda: now() >= moment)
        await outcomes(decide(host.runs, approval), host.parts.people.decisions.expire_due())
        await host.ended(accepted.run_id)
        (after,) = await approvals(host.runs)
        assert (after.state, len(box.ran)) in ((APPROVED, 1), (EXPIRED, 0))
        assert isinstance(script.outcomes[0], str) == (after.state == APPROVED)


async def test_who_may_decide(tmp_path: Path, runtime: FakeRuntime, box: FakeBox) -> None:
    runtime.script = Removing()
    async with careful(tmp_path, runtime, box) as host:
        named = await make_token(host, "member")
        policy = ApprovalPolicy(approver_ids=(named.token.token_id,), operators_excluded=True)
        await host.set_agent(box_policy=CAREFUL, approval_policy=policy)
        accepted = await host.submit()
        approval = await one_pending(host.runs)
        with pytest.raises(NotPermitted) as refused:
            await decide(host.runs, approval)
        assert refused.value.reason == Reason.REFUSED_BY_POLICY
        async with calling_as(host, "member") as somebody:
            with pytest.raises(NotPermitted):
                await decide(run_pb2_grpc.RunServiceStub(somebody), approval)
        async with calling_as(host, "viewer") as viewer:
            stub = run_pb2_grpc.RunServiceStub(viewer)
            assert len(await approvals(stub)) == 1
            with pytest.raises(NotPermitted):
                await decide(stub, approval)
        with pytest.raises(WrongState) as stale:
            await _as_named(host, named.secret, approval, "0" * 64)
        assert stale.value.reason == Reason.APPROVAL_STALE
        assert (await _as_named(host, named.secret, approval, approval.digest)).state == APPROVED
        await host.ended(accepted.run_id)


async def _as_named(host: Hosted, token: str, approval: run_pb2.Approval, digest: str) -> run_pb2.Approval:
    async with open_channel(host.address, token=token) as channel:
        return await decide(run_pb2_grpc.RunServiceStub(channel), approval, digest=digest)


async def test_nobody_approves_what_they_asked_for_themselves(
    tmp_path: Path, runtime: FakeRuntime, box: FakeBox
) -> None:
    runtime.script = Removing()
    async with careful(tmp_path, runtime, box) as host:
        event = a_message("remove it")
        event.actor.id = "admin"
        accepted = await host.submit(event)
        approval = await one_pending(host.runs)
        with pytest.raises(NotPermitted):
            await decide(host.runs, approval)
        async with calling_as(host, "operator") as other:
            await decide(run_pb2_grpc.RunServiceStub(other), approval)
        await host.ended(accepted.run_id)


async def test_tools_of_any_kind_can_need_an_approval(tmp_path: Path, runtime: FakeRuntime, box: FakeBox) -> None:
    runtime.script = script = Removing("ls")
    box.will_run("ls", done("files"))
    resources = ResourcePolicy(approved_tools=("ex*",))
    async with careful(tmp_path, runtime, box, resource_policy=resources) as host:
        accepted = await host.submit()
        await decide(host.runs, await one_pending(host.runs))
        await host.ended(accepted.run_id)
        assert script.outcomes[0].startswith("exit code 0")


async def test_side_by_side_calls_each_have_their_own(tmp_path: Path, runtime: FakeRuntime, box: FakeBox) -> None:
    other = "rm other"
    box.will_run(other, done("too"))

    async def script(run: FakeRun) -> None:
        both = [run.ask_all("call_tool", execute(command)) for command in (FATAL, other)]
        answers = [one[-1] for one in await asyncio.gather(*both)]
        assert answers[0].call_tool.result.text and answers[1].error.reason == Reason.APPROVAL_DENIED
        await run.answer("done")

    runtime.script = script
    async with careful(tmp_path, runtime, box) as host:
        accepted = await host.submit()
        await one_pending(host.runs, 2)
        waiting = {command_of(one): one for one in await approvals(host.runs, pending_only=True)}
        await decide(host.runs, waiting[other], approve=False)

        async def still_waits() -> bool:
            return (await host.run(accepted.run_id)).state == run_pb2.RUN_STATE_WAITING

        await until_told(still_waits)
        await decide(host.runs, waiting[FATAL])
        assert (await host.ended(accepted.run_id)).state == run_pb2.RUN_STATE_COMPLETED
        assert box.ran == [FATAL]
        states = [name for name in kinds(await host.watch(accepted.run_id)) if name.startswith("RUN_STATE")]
        assert states == ["RUN_STATE_RUNNING", "RUN_STATE_WAITING", "RUN_STATE_RUNNING"]


async def test_the_next_start_goes_on_with_the_same_approval(
    tmp_path: Path, runtime: FakeRuntime, box: FakeBox
) -> None:
    runtime.script = script = Removing()
    retry = {"on_interrupted": InterruptedPolicy.RETRY}
    async with careful(tmp_path, runtime, box, **retry) as host:
        accepted = await host.submit()
        first = await one_pending(host.runs)
    async with careful(tmp_path, runtime, box, **retry) as host:
        await until(lambda: len(runtime.runs) == 2)
        await until(lambda: bool(runtime.runs[1].approvals))
        (approval,) = await approvals(host.runs)
        assert approval.approval_id == first.approval_id and approval.state == PENDING
        await decide(host.runs, first)
        run = await host.ended(accepted.run_id)
        assert run.state == run_pb2.RUN_STATE_COMPLETED and run.attempt == 2
        assert box.ran == [FATAL] and script.outcomes[-1].startswith("exit code 0")


async def test_a_run_that_is_not_begun_again_waits_for_nobody(
    tmp_path: Path, runtime: FakeRuntime, box: FakeBox
) -> None:
    runtime.script = Removing()
    async with careful(tmp_path, runtime, box, on_interrupted=InterruptedPolicy.FAIL) as host:
        accepted = await host.submit()
        approval = await one_pending(host.runs)
    async with careful(tmp_path, runtime, box) as host:
        assert (await host.ended(accepted.run_id)).error.code == "host.restarted"
        with pytest.raises(WrongState) as refused:
            await decide(host.runs, approval)
        assert refused.value.reason == Reason.APPROVAL_STALE
        assert (await approvals(host.runs))[0].state == WITHDRAWN
    assert not box.ran
