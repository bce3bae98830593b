"""A runner asks for an approval of what it is about to do by itself: bound to what was shown, decided once."""

import asyncio
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from portway.rpc.errors import Reason
from portway.server.agents.types import ApprovalPolicy
from portway.v1 import audit_pb2, run_pb2, run_pull_pb2
from tests.asking import ask
from tests.deciding import APPROVED, EXPIRED, PENDING, WITHDRAWN, approvals, decide, one_pending
from tests.fakes.runtime_server import EVERYTHING, FakeRun, FakeRuntime, a_manifest, serve_fake_runtime
from tests.server.hosting import Hosted, a_message, hosted

COMPLETED = run_pb2.RUN_STATE_COMPLETED


def wanted(request_id: str = "p1", title: str = "Run ls?", **details: Any) -> run_pull_pb2.RequestApprovalRequest:
    request = run_pull_pb2.RequestApprovalRequest(request_id=request_id, subject="Bash", title=title)
    request.details.update(details or {"command": "ls", "secretly": "rm -rf /"})
    return request


class Asking:
    """A runner that asks for each of these, one after the other."""

    def __init__(self, *requests: run_pull_pb2.RequestApprovalRequest) -> None:
        self.requests = requests
        self.outcomes: list[Any] = []

    async def __call__(self, run: FakeRun) -> None:
        for request in self.requests:
            self.outcomes.append(await run.ask("request_approval", request))
        await run.answer("done")


async def test_what_a_person_allows_is_answered_and_the_run_waited(host: Hosted, runtime: FakeRuntime) -> None:
    runtime.script = script = Asking(wanted())
    accepted = await host.submit()
    approval = await one_pending(host.runs)
    assert (await host.run(accepted.run_id)).state == run_pb2.RUN_STATE_WAITING
    assert (approval.title, approval.call_id) == ("Bash: Run ls?", "p1")
    shown = MessageToDict(approval.details)
    assert (shown["kind"], shown["name"]) == ("request", "Bash")
    assert shown["arguments"]["details"] == {"command": "ls", "secretly": "rm -rf /"}
    await decide(host.runs, approval)
    assert (await host.ended(accepted.run_id)).state == COMPLETED
    assert [one.approval_id for one in script.outcomes] == [approval.approval_id]
    told = [(one.state, one.call_id) for one in runtime.runs[0].approvals]
    assert told == [(PENDING, "p1"), (APPROVED, "p1")]


async def test_a_refusal_is_an_answer_and_the_same_again_is_not_asked_again(host: Hosted, runtime: FakeRuntime) -> None:
    runtime.script = script = Asking(wanted(), wanted(), wanted(title="Run rm?"))
    accepted = await host.submit()
    await decide(host.runs, await one_pending(host.runs), approve=False, note="not today")
    await host.ended(accepted.run_id)
    assert [one.reason for one in script.outcomes] == [
        Reason.APPROVAL_DENIED,
        Reason.APPROVAL_DENIED,
        Reason.SAME_KEY_OTHER_BODY,
    ]
    assert "not today" in script.outcomes[1].message
    assert len(await approvals(host.runs, run_id=accepted.run_id)) == 1


async def test_the_same_at_the_same_time_waits_for_one_decision(host: Hosted, runtime: FakeRuntime) -> None:
    outcomes: list[Any] = []

    async def script(run: FakeRun) -> None:
        outcomes.extend(await asyncio.gather(*(run.ask("request_approval", wanted()) for _ in range(3))))
        await run.answer("done")

    runtime.script = script
    accepted = await host.submit()
    approval = await one_pending(host.runs)
    await decide(host.runs, approval)
    await host.ended(accepted.run_id)
    assert {one.approval_id for one in outcomes} == {approval.approval_id} and len(outcomes) == 3
    assert len(await approvals(host.runs)) == 1


async def test_another_detail_is_another_digest(host: Hosted, runtime: FakeRuntime) -> None:
    runtime.script = Asking(wanted("p1", command="ls"), wanted("p2", command="ls -l"), wanted("p3", "Run it?"))
    accepted = await host.submit()
    for _ in range(3):
        await decide(host.runs, await one_pending(host.runs))
    await host.ended(accepted.run_id)
    assert len({one.digest for one in await approvals(host.runs)}) == 3


async def test_nobody_decides_in_time_and_a_cancelled_call_is_withdrawn(host: Hosted, runtime: FakeRuntime) -> None:
    await host.set_agent(approval_policy=ApprovalPolicy(time_limit_seconds=0.2))
    runtime.script = script = Asking(wanted())
    late = await host.submit()
    await host.ended(late.run_id)
    assert script.outcomes[0].reason == Reason.APPROVAL_EXPIRED
    assert (await approvals(host.runs, run_id=late.run_id))[0].state == EXPIRED

    async def given_up(run: FakeRun) -> None:
        calling = asyncio.ensure_future(run.ask("request_approval", wanted()))
        await run.cancelled.wait()
        await run.send(run.result(run_failed={"error": {"code": "cancelled"}}))
        calling.cancel()

    await host.set_agent(approval_policy=ApprovalPolicy())
    runtime.script = given_up
    accepted = await host.submit()
    await one_pending(host.runs)
    await host.runs.CancelRun(run_pb2.CancelRunRequest(run_id=accepted.run_id))
    assert (await host.ended(accepted.run_id)).state == run_pb2.RUN_STATE_CANCELLED
    assert (await approvals(host.runs, run_id=accepted.run_id))[0].state == WITHDRAWN


async def test_it_is_refused_at_once_where_nobody_could_decide(host: Hosted, runtime: FakeRuntime) -> None:
    """Operators may not, nobody else is named, and the one who asked does not count."""
    policy = ApprovalPolicy(operators_excluded=True, approver_ids=("ada",))
    await host.set_agent(approval_policy=policy)
    runtime.script = script = Asking(wanted())
    event = a_message("please")
    event.actor.id = "ada"
    accepted = await host.submit(event)
    assert (await host.ended(accepted.run_id)).state == COMPLETED
    assert script.outcomes[0].reason == Reason.NOT_GRANTED and "approvals.request" in script.outcomes[0].message
    explained = await host.runs.ExplainRun(run_pb2.ExplainRunRequest(run_id=accepted.run_id))
    assert any("nobody who could decide" in line for layer in explained.layers for line in layer.removed)
    assert not await approvals(host.runs)


async def test_without_the_permission_it_is_refused_and_written_down(tmp_path: Path) -> None:
    modest = a_manifest(permissions=[one for one in EVERYTHING if one != "approvals_request"])
    async with serve_fake_runtime(FakeRuntime(manifest=modest)) as runtime, hosted(tmp_path, runtime) as host:
        await host.set_agent()
        runtime.script = script = Asking(wanted())
        accepted = await host.submit()
        await host.ended(accepted.run_id)
        assert script.outcomes[0].reason == Reason.NOT_GRANTED
        page = await ask(host.channel, audit_pb2.ListAuditEntriesRequest(action="RequestApproval"))
        assert [(one.run_id, one.allowed) for one in page.audit_entries] == [(accepted.run_id, False)]


async def test_too_much_is_refused_with_what_to_do(host: Hosted, runtime: FakeRuntime) -> None:
    runtime.script = script = Asking(wanted(command="x" * 70_000), wanted(title=""))
    accepted = await host.submit()
    await host.ended(accepted.run_id)
    assert script.outcomes[0].reason == Reason.PAYLOAD_TOO_LARGE and "content_digest" in script.outcomes[0].message
    assert script.outcomes[1].reason == Reason.INVALID_FIELD
