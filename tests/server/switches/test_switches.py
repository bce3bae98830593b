"""Kill switches: what is stopped is refused at once, with the reason, and explained."""

from pathlib import Path

import pytest

from portway.rpc.errors import InvalidInput, NotPermitted
from portway.server.agents.types import BoxPolicy
from portway.v1 import audit_pb2, content_pb2, event_pb2, run_model_pb2, run_pb2, run_pull_pb2, workspace_pb2
from tests.asking import ask
from tests.fakes.box_server import FakeBox, serve_fake_box
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.callers import calling_as
from tests.server.hosting import AGENT, Hosted, a_message, hosted
from tests.server.playing import played
from tests.waiting import until, until_told

_KINDS = workspace_pb2.SwitchKind


async def switch(host: Hosted, kind: str, target_id: str, on: bool = True) -> workspace_pb2.KillSwitch:
    wanted = workspace_pb2.KillSwitch(
        kind=_KINDS.Value(f"SWITCH_KIND_{kind.upper()}"), target_id=target_id, on=on, reason="it misbehaves"
    )
    answer = await ask(host.channel, workspace_pb2.SetKillSwitchRequest(kill_switch=wanted))
    found: workspace_pb2.KillSwitch = answer.kill_switch
    return found


async def actions(host: Hosted, action: str) -> list[audit_pb2.AuditEntry]:
    page = await ask(host.channel, audit_pb2.ListAuditEntriesRequest(action=action))
    return list(page.audit_entries)


async def test_events_of_a_stopped_agent_are_refused_explained_and_audited(host: Hosted) -> None:
    await switch(host, "agent", AGENT)
    refused = await host.submit("hi")
    assert refused.outcome == event_pb2.EVENT_OUTCOME_REFUSED and not refused.run_id
    told = await ask(host.channel, event_pb2.ExplainMessageRequest(id=refused.event_id))
    assert "kill switch" in told.conclusion and "it misbehaves" in told.conclusion
    simulated = await ask(host.channel, event_pb2.SimulateEventRequest(event=a_message("hi")))
    assert simulated.outcome == event_pb2.EVENT_OUTCOME_REFUSED
    await until_told(lambda: _has(host, "event.accept"))
    await switch(host, "agent", AGENT, on=False)
    assert (await host.asked("hi again")).state == run_pb2.RUN_STATE_COMPLETED
    assert [entry.action for entry in await actions(host, "switch.*")] == ["switch.off", "switch.on"]


async def _has(host: Hosted, action: str) -> bool:
    return bool(await actions(host, action))


async def test_runs_under_way_of_a_stopped_agent_are_cancelled_and_waiting_ones_too(
    host: Hosted, runtime: FakeRuntime
) -> None:
    async def hold(run: FakeRun) -> None:
        await run.cancelled.wait()
        await run.send(run.result(run_failed={"error": {"code": "cancelled"}}))

    runtime.script = hold
    first, second = await host.submit("one", chat="same"), await host.submit("two", chat="same")
    await until(lambda: len(runtime.runs) == 1)
    await switch(host, "agent", AGENT)
    for accepted in (first, second):
        run = await host.run(accepted.run_id)
        assert run.state == run_pb2.RUN_STATE_CANCELLED
    assert len(runtime.runs) == 1


async def test_a_bot_is_stopped_alone(host: Hosted) -> None:
    await switch(host, "bot", "bot_1")

    def to(bot: str) -> event_pb2.Event:
        event = a_message("hi", chat=bot)
        event.address.bot_id = bot
        return event

    assert (await host.submit(to("bot_1"))).outcome == event_pb2.EVENT_OUTCOME_REFUSED
    assert (await host.submit(to("bot_2"))).outcome == event_pb2.EVENT_OUTCOME_RUN


async def test_a_stopped_model_is_refused_and_a_fallback_takes_its_place(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        model = "demo"
        part = content_pb2.ContentPart(text=content_pb2.TextPart(text="hi"))
        message = run_model_pb2.ModelMessage(role=content_pb2.MESSAGE_ROLE_USER, parts=[part])
        request = run_model_pb2.InvokeModelRequest(
            request=run_model_pb2.ModelRequest(model_id=model, messages=[message])
        )
        assert (await run.ask("invoke_model", request)).HasField("answer")
        await switch(host, "model", model)
        error = await run.ask("invoke_model", request)
        assert error.reason == "KILL_SWITCH", error
        await switch(host, "model", model, on=False)
        assert (await run.ask("invoke_model", request)).HasField("answer")

    run = await played(host, runtime, script)
    await until_told(lambda: _has(host, "InvokeModel"))
    (entry,) = await actions(host, "InvokeModel")
    assert entry.reason == "KILL_SWITCH" and entry.run_id == run.run_id and not entry.allowed


async def test_a_stopped_tool_is_refused_before_it_acts(tmp_path: Path, runtime: FakeRuntime) -> None:
    box = FakeBox()

    async def script(run: FakeRun) -> None:
        await switch(host, "tool", "exec")
        request = run_pull_pb2.RunnerServiceCallToolRequest(name="exec")
        request.arguments["command"] = "echo hi"
        error = await run.ask("call_tool", request)
        assert error.reason == "KILL_SWITCH", error
        frame = run_pull_pb2.RunBoxRequest()
        frame.exec.start.session_id, frame.exec.start.command.shell = "its own", "echo hi"
        error = await run.ask("run_box", frame)
        assert error.reason == "KILL_SWITCH", error

    async with serve_fake_box(box), hosted(tmp_path, runtime, box=box) as host:
        await host.set_agent(box_policy=BoxPolicy(tools=("*",)))
        await until(lambda: host.parts.box_link.availability().available)
        await played(host, runtime, script)
        await until_told(lambda: _has(host, "CallTool"))
    assert not box.sessions


async def test_switches_survive_a_restart_and_are_listed_in_pages(tmp_path: Path, runtime: FakeRuntime) -> None:
    async with hosted(tmp_path, runtime) as host:
        await host.set_agent()
        for name in ("a", "b", AGENT):
            await switch(host, "agent", name)
    async with hosted(tmp_path, runtime) as host:
        page = await ask(host.channel, workspace_pb2.ListKillSwitchesRequest(page_size=2))
        rest = await ask(
            host.channel, workspace_pb2.ListKillSwitchesRequest(page_size=2, page_token=page.next_page_token)
        )
        assert [one.target_id for one in (*page.kill_switches, *rest.kill_switches)] == ["a", AGENT, "b"]
        assert (await host.submit("hi")).outcome == event_pb2.EVENT_OUTCOME_REFUSED


async def test_everything_of_a_kind_is_stopped_by_a_star(host: Hosted) -> None:
    await switch(host, "agent", "*")
    assert (await host.submit("hi")).outcome == event_pb2.EVENT_OUTCOME_REFUSED


async def test_a_viewer_reads_and_another_workspace_is_not_touched(host: Hosted) -> None:
    await ask(
        host.channel,
        workspace_pb2.CreateWorkspaceRequest(workspace=workspace_pb2.Workspace(workspace_id="team", name="Team")),
    )
    await switch(host, "agent", AGENT)
    async with calling_as(host, "viewer", "team") as viewer:
        assert not (await ask(viewer, workspace_pb2.ListKillSwitchesRequest())).kill_switches
        with pytest.raises(NotPermitted):
            await ask(
                viewer,
                workspace_pb2.SetKillSwitchRequest(
                    kill_switch=workspace_pb2.KillSwitch(kind=_KINDS.SWITCH_KIND_AGENT, target_id="x", on=True)
                ),
            )
    with pytest.raises(InvalidInput):
        await ask(
            host.channel,
            workspace_pb2.SetKillSwitchRequest(kill_switch=workspace_pb2.KillSwitch(target_id="x", on=True)),
        )
