"""Platform actions: granted by manifest, policy and surface, approved where needed, delivered once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from portway.rpc.errors import Reason
from portway.rpc.status import errors_by_meaning
from portway.server.agents.types import DeliveryPolicy
from portway.v1 import event_pb2, run_context_pb2, run_pb2, run_pull_pb2, run_result_pb2
from tests.asking_people import ASKING
from tests.deciding import APPROVED, approvals, decide, one_pending
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.hosting import Hosted, a_message
from tests.waiting import until_told

ACTIONS = ("message.react", "message.recall", "message.edit", "group.kick")
SURFACE = run_context_pb2.SurfaceCapabilities(platform_actions=ACTIONS[:3])


@pytest.fixture
async def runtime(runtime: FakeRuntime) -> AsyncIterator[FakeRuntime]:
    runtime.manifest.CopyFrom(ASKING)
    runtime.manifest.permissions.platform_actions.extend(ACTIONS)
    yield runtime


def a_request(action: str, request_id: str = "r1", target: str = "", **payload: Any) -> Any:
    request = run_pull_pb2.RequestActionRequest(request_id=request_id)
    request.action.action, request.action.target = action, target
    request.action.payload.update(payload)
    return request


def an_event(text: str = "hi") -> event_pb2.Event:
    return a_message(text, surface="web_chat", capabilities=SURFACE)


async def played(host: Hosted, runtime: FakeRuntime, script: Any) -> run_pb2.Run:
    problems: list[BaseException] = []

    async def guarded(run: FakeRun) -> None:
        try:
            await script(run)
        except BaseException as error:
            problems.append(error)
            raise
        await run.answer("done")

    runtime.script = guarded
    accepted = await host.submit(an_event())
    run = await host.ended(accepted.run_id)
    if problems:
        raise problems[0]
    return run


async def test_an_action_is_a_delivery_once_per_request(host: Hosted, runtime: FakeRuntime) -> None:
    await host.set_agent(delivery_policy=DeliveryPolicy(platform_actions=ACTIONS))

    async def script(run: FakeRun) -> None:
        assert list(run.context.resources.platform_actions) == sorted(ACTIONS[:3])
        wanted = a_request("message.react", target="17", reaction="👍")
        answers = await asyncio.gather(*(run.ask("request_action", wanted) for _ in range(5)))
        assert len({one.delivery_id for one in answers}) == 1 and answers[0].delivery_id.startswith("dlv_")
        other = await run.ask("request_action", a_request("message.react", target="17", reaction="👎"))
        assert other.reason == Reason.SAME_KEY_OTHER_BODY

    run = await played(host, runtime, script)
    deliveries = await host.parts.stores.deliveries.of_run("default", run.run_id, 10)
    assert len(deliveries) == 2
    kinds = [event.WhichOneof("kind") for event in await host.watch(run.run_id, committed_only=True)]
    assert kinds.count("action_requested") == 1 and kinds.count("recorded") == 1
    with errors_by_meaning():
        explained = await host.runs.ExplainRun(run_pb2.ExplainRunRequest(run_id=run.run_id))
    assert any("message.react" in step.summary for step in explained.steps)


async def test_what_is_not_granted_is_recorded_and_not_done(host: Hosted, runtime: FakeRuntime) -> None:
    await host.set_agent(delivery_policy=DeliveryPolicy(platform_actions=ACTIONS))

    async def script(run: FakeRun) -> None:
        unknown = await run.ask("request_action", a_request("account.delete"))
        assert unknown.code == 7 and unknown.reason == Reason.NOT_GRANTED
        unable = await run.ask("request_action", a_request("group.kick", "r2"))
        assert unable.code == 9 and unable.reason == Reason.NOT_SUPPORTED_HERE
        await run.send(
            run.result(action_requested={"request_id": "r3", "action": {"action": "account.delete"}}),
            run.result(action_requested={"request_id": "r4", "action": {"action": "message.react", "target": "1"}}),
        )

    run = await played(host, runtime, script)
    events = await host.watch(run.run_id, committed_only=True)
    assert [one.recorded.reason for one in events if one.HasField("recorded")] == [
        "NOT_GRANTED",
        "NOT_SUPPORTED_HERE",
        "NOT_GRANTED",
    ]
    assert [one.action_requested.request_id for one in events if one.HasField("action_requested")] == ["r4"]
    assert len(await host.parts.stores.deliveries.of_run("default", run.run_id, 10)) == 2


async def test_no_action_without_a_policy(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        refused = await run.ask("request_action", a_request("message.react"))
        assert refused.reason == Reason.NOT_GRANTED

    await played(host, runtime, script)


async def test_an_action_that_a_person_must_approve_waits(host: Hosted, runtime: FakeRuntime) -> None:
    policy = DeliveryPolicy(platform_actions=ACTIONS, approved_actions=("message.re*",))
    await host.set_agent(delivery_policy=policy)
    receipts: list[Any] = []

    async def script(run: FakeRun) -> None:
        receipts.append(await run.ask("request_action", a_request("message.react", target="17")))
        receipts.append(await run.ask("request_action", a_request("message.recall", "r2", target="17")))
        await run.answer("done")

    runtime.script = script
    accepted = await host.submit(an_event())
    first = await one_pending(host.runs)
    assert first.title == "Do message.react?" and (await host.run(accepted.run_id)).state == run_pb2.RUN_STATE_WAITING
    await decide(host.runs, first)

    async def second_waits() -> bool:
        waiting = await approvals(host.runs, pending_only=True)
        return bool(waiting) and waiting[0].approval_id != first.approval_id

    await until_told(second_waits)
    await decide(host.runs, (await approvals(host.runs, pending_only=True))[0], approve=False)
    await host.ended(accepted.run_id)
    assert receipts[0].approval_id == first.approval_id and receipts[0].delivery_id
    assert receipts[1].reason == Reason.APPROVAL_DENIED
    assert [one.state for one in await approvals(host.runs)].count(APPROVED) == 1


async def test_the_agent_s_own_message_is_edited_and_recalled_and_nobody_else_s(
    host: Hosted, runtime: FakeRuntime
) -> None:
    await host.set_agent(delivery_policy=DeliveryPolicy(platform_actions=ACTIONS))

    async def script(run: FakeRun) -> None:
        await run.send(run.message("frist"), run.message("a secret"))
        page = await run.ask("page_history", run_pull_pb2.PageHistoryRequest(limit=10))
        theirs, own, secret = page.items
        edit = a_request("message.edit", "r1", own.item_id, text="first")
        assert (await run.ask("request_action", edit)).delivery_id
        assert (await run.ask("request_action", a_request("message.recall", "r2", secret.item_id))).delivery_id
        foreign = await run.ask("request_action", a_request("message.recall", "r3", theirs.item_id))
        assert foreign.reason == Reason.NOT_GRANTED
        missing = await run.ask("request_action", a_request("message.recall", "r4", "msg_nothing"))
        assert missing.reason == Reason.NOT_FOUND
        empty = await run.ask("request_action", a_request("message.edit", "r5", own.item_id))
        assert [one.field for one in empty.violations] == ["action.payload.text"]

    run = await played(host, runtime, script)
    items = await host.transcript(run.conversation_id)
    assert [(item.text, bool(item.edit_time), bool(item.redact_time)) for item in items[1:3]] == [
        ("first", True, False),
        ("", False, True),
    ]
    assert run_result_pb2.FINISH_REASON_STOP == run.finish_reason
