"""What a workspace may hold and do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from portway.clients.box import Box
from portway.rpc.channel import PortwayChannel, open_channel
from portway.rpc.errors import Conflict, InvalidInput, LimitExceeded, Reason, Stale, WrongState
from portway.rpc.ids import new_id
from portway.server.tools.box_client import BoxClient
from portway.server.tools.types import BoxSession
from portway.server.workspaces.directory import WorkspaceDirectory
from portway.server.workspaces.quotas import WorkspaceQuotas
from portway.server.workspaces.types import Quota, Workspace, WorkspaceLimits
from portway.v1 import agent_pb2, artifact_pb2, binding_pb2, event_pb2, run_pb2, workspace_pb2
from tests.asking import ask, upload
from tests.fakes.box_server import FakeBox, serve_fake_box
from tests.fakes.runtime_server import RUNNER, FakeRun, FakeRuntime, answer_hello
from tests.server.callers import make_token
from tests.server.hosting import Hosted, a_message
from tests.waiting import until, until_told

TEAM = "team"


async def set_quota(served: Hosted, **quota: int) -> Any:
    """The workspace `team`, made or changed."""
    wanted = workspace_pb2.Workspace(
        workspace_id=TEAM,
        name="Team",
        quota=workspace_pb2.WorkspaceQuota(**quota),
    )
    try:
        made = (await ask(served.channel, workspace_pb2.CreateWorkspaceRequest(workspace=wanted))).workspace
    except Conflict:
        made = (await ask(served.channel, workspace_pb2.UpdateWorkspaceRequest(workspace=wanted))).workspace
    return made


@asynccontextmanager
async def team(served: Hosted, **quota: int) -> AsyncIterator[PortwayChannel]:
    """An operator of a workspace with an agent of its own."""
    await set_quota(served, **quota)
    made = await make_token(served, "operator", TEAM)
    async with open_channel(served.address, token=made.secret) as channel:
        agent = agent_pb2.Agent(agent_id="helper", name="Helper", runner_id=RUNNER)
        agent.config["api_key"] = "x"
        await ask(channel, agent_pb2.CreateAgentRequest(agent=agent))
        yield channel


async def submit(channel: PortwayChannel, chat: str) -> event_pb2.SubmitEventResponse:
    request = event_pb2.SubmitEventRequest(
        event=a_message("hi", chat=chat), idempotency_key=new_id("key"), agent_id="helper"
    )
    answer: event_pb2.SubmitEventResponse = await ask(channel, request)
    return answer


async def run_of(channel: PortwayChannel, run_id: str) -> run_pb2.Run:
    run: run_pb2.Run = (await ask(channel, run_pb2.GetRunRequest(run_id=run_id))).run
    return run


class Held:
    """A runner that answers when it is let."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, run: FakeRun) -> None:
        opened, stopped = (asyncio.ensure_future(event.wait()) for event in (self.open, run.cancelled))
        _, pending = await asyncio.wait({opened, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for one in pending:
            one.cancel()
        if run.cancelled.is_set():
            await run.send(run.result(run_failed={"error": {"code": "cancelled"}}))
        else:
            await answer_hello(run)


def of_team(runtime: FakeRuntime) -> int:
    return len(runtime.runs)


async def test_so_many_runs_execute_and_so_many_wait(served: Hosted, schema_runtime: FakeRuntime) -> None:
    held = schema_runtime.script = Held()
    async with team(served, max_active_runs=2, max_queued_runs=3) as channel:
        accepted = [await submit(channel, f"chat-{number}") for number in range(2)]
        await until(lambda: of_team(schema_runtime) == 2)
        results = await asyncio.gather(
            *(submit(channel, f"more-{number}") for number in range(8)), return_exceptions=True
        )
        refused = [error for error in results if isinstance(error, LimitExceeded)]
        taken = [one for one in results if isinstance(one, event_pb2.SubmitEventResponse)]
        assert (len(taken), len(refused)) == (3, 5)
        assert refused[0].reason == Reason.QUOTA_EXCEEDED and refused[0].retry_after
        assert refused[0].quota is not None and refused[0].quota.subject == "workspace team"
        # Another workspace is not held up.
        await served.submit("hi")
        await until(lambda: of_team(schema_runtime) == 3)
        held.open.set()
        for one in (*accepted, *taken):
            await until_told(partial(_ended, channel, one.run_id))
    assert of_team(schema_runtime) == 6


async def _ended(channel: PortwayChannel, run_id: str) -> bool:
    return (await run_of(channel, run_id)).state == run_pb2.RUN_STATE_COMPLETED


async def test_a_raised_limit_lets_waiting_runs_go(served: Hosted, schema_runtime: FakeRuntime) -> None:
    held = schema_runtime.script = Held()
    async with team(served, max_active_runs=1) as channel:
        for number in range(3):
            await submit(channel, f"chat-{number}")
        await until(lambda: of_team(schema_runtime) == 1)
        await set_quota(served, max_active_runs=3)
        await until(lambda: of_team(schema_runtime) == 3)
        held.open.set()


async def test_events_a_minute(served: Hosted) -> None:
    async with team(served, events_per_minute=2) as channel:
        request = event_pb2.SubmitEventRequest(event=a_message("hi"), idempotency_key="same", agent_id="helper")
        first = await ask(channel, request)
        await submit(channel, "b")
        with pytest.raises(LimitExceeded) as refused:
            await submit(channel, "c")
        assert refused.value.reason == Reason.QUOTA_EXCEEDED
        assert refused.value.retry_after is not None and 0 < refused.value.retry_after <= 30
        # What was accepted is answered all the same.
        again = await ask(channel, request)
        assert again.duplicate and again.event_id == first.event_id


async def test_bytes_of_artifacts(served: Hosted) -> None:
    async def send(channel: PortwayChannel, size: int) -> str:
        start = artifact_pb2.CreateArtifactStart(name="f.txt")
        answer = await upload(
            channel,
            artifact_pb2.CreateArtifactRequest(start=start),
            artifact_pb2.CreateArtifactRequest(data=b"x" * size),
        )
        return str(answer.artifact.ref.artifact_id)

    async with team(served, max_artifact_bytes=100) as channel:
        kept = await send(channel, 60)
        with pytest.raises(LimitExceeded) as refused:
            await send(channel, 41)
        assert refused.value.reason == Reason.QUOTA_EXCEEDED
        await send(channel, 40)
        await ask(channel, artifact_pb2.DeleteArtifactRequest(artifact_id=kept))
        await send(channel, 41)


async def test_a_disabled_workspace_stops_and_goes_on(served: Hosted, schema_runtime: FakeRuntime) -> None:
    schema_runtime.script = Held()
    async with team(served, max_active_runs=1) as channel:
        running, waiting = await submit(channel, "a"), await submit(channel, "b")
        await until(lambda: of_team(schema_runtime) == 1)
        off = workspace_pb2.Workspace(workspace_id=TEAM, name="Team", disabled=True)
        changed = (await ask(served.channel, workspace_pb2.UpdateWorkspaceRequest(workspace=off))).workspace
        assert changed.disabled
        for request in (agent_pb2.ListAgentsRequest(), binding_pb2.ListBindingsRequest()):
            with pytest.raises(WrongState) as refused:
                await ask(channel, request)
            assert refused.value.reason == Reason.WORKSPACE_DISABLED
        schema_runtime.script = answer_hello
        off.disabled = False
        with pytest.raises(Stale):
            off.revision = 1
            await ask(served.channel, workspace_pb2.UpdateWorkspaceRequest(workspace=off))
        off.revision = 0
        await ask(served.channel, workspace_pb2.UpdateWorkspaceRequest(workspace=off))
        assert (await run_of(channel, running.run_id)).state == run_pb2.RUN_STATE_CANCELLED
        await until_told(lambda: _ended(channel, waiting.run_id))


async def test_the_default_workspace_stays_on(served: Hosted) -> None:
    off = workspace_pb2.Workspace(workspace_id="default", name="Default", disabled=True)
    with pytest.raises(WrongState):
        await ask(served.channel, workspace_pb2.UpdateWorkspaceRequest(workspace=off))
    with pytest.raises(InvalidInput):
        negative = workspace_pb2.Workspace(workspace_id="x", name="X")
        negative.quota.max_active_runs = -1
        await ask(served.channel, workspace_pb2.CreateWorkspaceRequest(workspace=negative))


async def test_sandboxes() -> None:
    directory = WorkspaceDirectory()
    directory.put(Workspace(TEAM, "Team", False, 1, 0, 0, WorkspaceLimits(quota=Quota(box_sessions=1))))
    fake = FakeBox()
    async with serve_fake_box(fake), Box(fake.address, token=fake.token) as box:
        client = BoxClient(box, WorkspaceQuotas(directory))

        def session(name: str, workspace_id: str = TEAM) -> BoxSession:
            return BoxSession(workspace_id=workspace_id, session_id=name)

        await client.write(session("one"), "a.txt", b"a")
        with pytest.raises(LimitExceeded) as refused:
            await client.write(session("two"), "a.txt", b"a")
        assert refused.value.reason == Reason.QUOTA_EXCEEDED
        await client.write(session("one"), "b.txt", b"b")
        await client.write(session("three", "other"), "a.txt", b"a")
