"""ListOwned over the wire: each kind is seen while it is held, and gone after it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from portway.rpc.errors import InvalidInput, NotFound, Unavailable
from portway.rpc.status import errors_by_meaning
from portway.server.agents.types import BoxPolicy
from portway.server.schedules.store import add_schedule
from portway.server.schedules.types import ScheduleSpec
from portway.v1 import artifact_pb2, artifact_pb2_grpc, process_pb2, run_pb2, run_pb2_grpc, session_pb2, workspace_pb2
from tests.asking import ask as call
from tests.asking_people import a_form, an_answer, ask, completes, submit
from tests.deciding import decide, done, execute, one_pending
from tests.fakes.adapter_client import an_adapter
from tests.fakes.box_server import HOLD, FakeBox, FakeSession
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.ownership import assert_no_work_left, assert_nothing_owned, owned
from tests.server.callers import calling_as, make_token
from tests.server.hosting import WORKSPACE, Hosted
from tests.waiting import until

RM = "rm -rf /srv/data"


def kinds(items: list[run_pb2.OwnedItem]) -> list[str]:
    return [item.kind for item in items]


async def with_tools(host: Hosted) -> None:
    await host.set_agent(box_policy=BoxPolicy(tools=("*",), approved_commands=("^rm ",)))
    await until(lambda: host.parts.box_link.availability().available)


async def test_a_command_under_way_shows_its_effect_its_call_and_its_session(
    host: Hosted, runtime: FakeRuntime, box: FakeBox
) -> None:
    async def runs(run: FakeRun) -> None:
        await run.ask_all("call_tool", execute(HOLD, "c1"))
        await run.answer("done")

    runtime.script = runs
    box.will_run(HOLD, done("x"))
    await with_tools(host)
    accepted = await host.submit()
    await box.running.wait()
    held = await owned(host.runs, run_id=accepted.run_id)
    assert kinds(held) == ["run", "attempt", "token", "effect", "session_use", "call"]
    by_kind = {item.kind: item for item in held}
    assert by_kind["run"].lease_expire_time.seconds > by_kind["run"].create_time.seconds
    assert by_kind["effect"].state == "planned: exec" and by_kind["effect"].owner_id == accepted.run_id
    session_id = next(iter(box.sessions))
    assert by_kind["session_use"].id == f"{accepted.run_id}/{session_id}"
    assert kinds(await owned(host.runs, session_id=session_id)) == ["session_use", "call", "session"]
    assert kinds(await owned(host.runs, conversation_id=accepted.conversation_id)) == kinds(held)
    assert kinds(await owned(host.runs)) == [*kinds(held), "session"]
    box.release.set()
    await host.ended(accepted.run_id)
    await assert_nothing_owned(host.runs, run_id=accepted.run_id)
    await assert_nothing_owned(host.runs, conversation_id=accepted.conversation_id)
    # The sandbox stays for the next message, and is the workspace's until it is idle.
    assert kinds(await owned(host.runs)) == ["session"]
    del box.sessions[session_id]
    await assert_nothing_owned(host.runs)
    await assert_nothing_owned(host.runs, session_id=session_id)


async def test_an_approval_shows_until_when_it_can_be_given(host: Hosted, runtime: FakeRuntime, box: FakeBox) -> None:
    async def removes(run: FakeRun) -> None:
        await run.ask_all("call_tool", execute(RM))
        await run.answer("done")

    runtime.script = removes
    box.will_run(RM, done("x"))
    await with_tools(host)
    accepted = await host.submit()
    approval = await one_pending(host.runs)
    (held,) = [item for item in await owned(host.runs, run_id=accepted.run_id) if item.kind == "approval"]
    assert held.id == approval.approval_id and held.lease_expire_time == approval.expire_time
    await decide(host.runs, approval)
    await host.ended(accepted.run_id)
    await assert_nothing_owned(host.runs, run_id=accepted.run_id)


async def test_a_question_is_held_until_it_is_answered_or_withdrawn(host: Hosted, runtime: FakeRuntime) -> None:
    async def asks(run: FakeRun) -> None:
        await ask(run, a_form())
        await run.send(completes(run))

    runtime.script = asks
    run = await host.asked()
    (held,) = await owned(host.runs, run_id=run.run_id)
    assert (held.kind, held.id, held.state) == ("interaction", f"{run.run_id}/q1", "open")
    assert held.HasField("lease_expire_time")

    async def answers(run: FakeRun) -> None:
        await run.answer("thanks")

    runtime.script = answers
    answer = await submit(host, an_answer(run.run_id, city="Oslo"))
    await host.ended(answer.run_id)
    await assert_nothing_owned(host.runs, conversation_id=run.conversation_id)


async def test_uploads_schedules_and_adapters_show_while_they_last(host: Hosted, runtime: FakeRuntime) -> None:
    async def waits(run: FakeRun) -> None:
        await run.cancelled.wait()
        await run.answer("x")

    runtime.script = waits
    go_on = asyncio.Event()

    async def frames() -> AsyncIterator[artifact_pb2.CreateArtifactRequest]:
        yield artifact_pb2.CreateArtifactRequest(start=artifact_pb2.CreateArtifactStart(name="a.txt"))
        yield artifact_pb2.CreateArtifactRequest(data=b"abc")
        await go_on.wait()

    stub = artifact_pb2_grpc.ArtifactServiceStub(host.channel)
    uploading = asyncio.ensure_future(stub.CreateArtifact(frames()))
    await until(lambda: any(one.size == 3 for one in host.parts.stores.blobs.under_way))
    (held,) = await owned(host.runs)
    assert (held.kind, held.owner_id, held.state) == ("upload", WORKSPACE, "3 bytes so far")
    go_on.set()
    await uploading
    await assert_nothing_owned(host.runs)

    accepted = await host.submit()
    spec, run_id = ScheduleSpec(name="daily", cron="@daily"), accepted.run_id

    def unit(tx: object) -> None:
        add_schedule(tx, WORKSPACE, "sch_1", spec, 0)  # type: ignore[arg-type]
        tx.execute("UPDATE schedules SET last_run_id = :run_id", {"run_id": run_id})  # type: ignore[attr-defined]

    await host.parts.stores.database.writer.run(unit)
    shown = [item for item in await owned(host.runs) if item.kind == "schedule"]
    assert [(item.id, item.owner_id) for item in shown] == [("sch_1", WORKSPACE)] and run_id in shown[0].state
    await assert_no_work_left(host.runs)
    await assert_nothing_owned(host.runs)

    made = await make_token(host, "adapter")
    async with an_adapter(host.address, made.secret) as adapter:
        await adapter.hello()
        (held,) = await owned(host.runs)
        assert (held.kind, held.id) == ("lease", "adapter/web_chat") and held.state.startswith("generation ")
    await assert_nothing_owned(host.runs)


async def test_processes_of_a_session_show_while_they_run(host: Hosted, box: FakeBox) -> None:
    running = process_pb2.Process(process_id="server", state=process_pb2.PROCESS_STATE_RUNNING)
    ended = process_pb2.Process(process_id="over", state=process_pb2.PROCESS_STATE_EXITED)
    session = FakeSession(session_pb2.SessionSpec(), workspace_id=WORKSPACE, processes=[running, ended])
    box.sessions["s-1"] = session
    await until(lambda: host.parts.box_link.availability().available)
    held = await owned(host.runs, session_id="s-1")
    assert [(item.kind, item.id) for item in held] == [("session", "s-1"), ("process", "s-1/server")]


async def test_what_the_box_finds_of_a_session_shows_and_also_what_it_leaves_behind(host: Hosted, box: FakeBox) -> None:
    box.sessions["s-1"] = FakeSession(session_pb2.SessionSpec(), workspace_id=WORKSPACE)
    box.held_things["s-1"] = [
        session_pb2.HeldItem(kind="command", id="7", state="under way"),
        session_pb2.HeldItem(kind="control_group", id="lane-1", state="2 processes"),
        session_pb2.HeldItem(kind="socket", id="models"),
    ]
    await until(lambda: host.parts.box_link.availability().available)
    names = ["s-1/command/7", "s-1/control_group/lane-1", "s-1/socket/models"]
    assert [item.id for item in await owned(host.runs, session_id="s-1")] == ["s-1", *names]
    del box.sessions["s-1"]
    assert [item.id for item in await owned(host.runs, session_id="s-1")] == names
    del box.held_things["s-1"]
    with pytest.raises(NotFound):
        await owned(host.runs, session_id="s-1")


async def test_pages_stay_true_while_things_come_and_go(host: Hosted, runtime: FakeRuntime) -> None:
    async def waits(run: FakeRun) -> None:
        await run.cancelled.wait()
        await run.answer("x")

    runtime.script = waits
    accepted = [await host.submit(f"{number}", chat="same") for number in range(7)]
    wanted = {one.run_id for one in accepted}
    found: list[str] = []
    request = run_pb2.ListOwnedRequest(page_size=2)
    while True:
        page = await host.runs.ListOwned(request)
        found += [item.id for item in page.items if item.kind == "run"]
        assert len(page.items) <= 2
        request.page_token = page.next_page_token
        if not request.page_token:
            break
        if len(found) == 2:
            # What was shown goes: what comes after it is shown once all the same.
            await host.runs.CancelRun(run_pb2.CancelRunRequest(run_id=found[1]))
    assert sorted(found) == sorted(wanted)
    with pytest.raises(InvalidInput), errors_by_meaning():
        await host.runs.ListOwned(run_pb2.ListOwnedRequest(page_token=request.page_token + "x"))
    await assert_no_work_left(host.runs)


async def test_what_another_workspace_holds_does_not_exist(host: Hosted, runtime: FakeRuntime, box: FakeBox) -> None:
    async def answers(run: FakeRun) -> None:
        await run.answer("x")

    runtime.script = answers
    run = await host.asked()
    box.sessions["theirs"] = FakeSession(session_pb2.SessionSpec(), workspace_id=WORKSPACE)
    await until(lambda: host.parts.box_link.availability().available)
    other = workspace_pb2.Workspace(workspace_id="other", name="Other")
    await call(host.channel, workspace_pb2.CreateWorkspaceRequest(workspace=other))
    async with calling_as(host, "viewer", "other") as channel:
        stub = run_pb2_grpc.RunServiceStub(channel)
        for owner in (
            {"run_id": run.run_id},
            {"conversation_id": run.conversation_id},
            {"session_id": "theirs"},
            {"session_id": f"{WORKSPACE}:assistant:x"},
            {"session_id": ""},
        ):
            with pytest.raises(NotFound):
                await owned(stub, **owner)
        assert await owned(stub) == []


async def test_a_box_that_is_away_is_said_and_not_taken_for_an_empty_one(
    host: Hosted, runtime: FakeRuntime, box: FakeBox
) -> None:
    async def is_away(_: float) -> bool:
        return False

    host.parts.box.reachable = is_away
    page = await host.runs.ListOwned(run_pb2.ListOwnedRequest())
    assert page.unlisted == ["sessions and processes: the box cannot be reached; see `portway status`"]
    with pytest.raises(Unavailable), errors_by_meaning():
        await host.runs.ListOwned(run_pb2.ListOwnedRequest(session_id="s-1"))
