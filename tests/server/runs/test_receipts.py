"""The receipt of a cancelled run: everything that it had begun, each thing stopped only when that is known."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from portway.server.agents.types import BoxPolicy, ResourcePolicy
from portway.v1 import process_pb2, run_pb2, session_pb2
from portway.v1 import run_pull_pb2 as pb
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.sandbox import why_no_sandbox
from tests.server.hosting import Hosted, hosted
from tests.server.runner_calls.test_box_and_files import start
from tests.server.runs.test_stopping import cancel, obedient, stubborn
from tests.server.tools.real_box import RealBox, running_box
from tests.waiting import until

STOPPED, UNREACHABLE = run_pb2.STOP_STATE_STOPPED, run_pb2.STOP_STATE_UNREACHABLE
# What may pass between asking for a cancel and the runner's frame, on a machine that does other things as well.
CANCEL_SECONDS = 20.0


@pytest.fixture
def box(tmp_path: Path) -> Iterator[RealBox]:
    if reason := why_no_sandbox():
        pytest.skip(f"no sandbox on this machine: {reason}")
    folder = tmp_path / "box"
    folder.mkdir()
    with running_box(folder) as running:
        yield running


@pytest.fixture
async def boxed(tmp_path: Path, runtime: FakeRuntime, box: RealBox) -> AsyncIterator[Hosted]:
    there: Any = box
    async with hosted(tmp_path, runtime, box=there) as host:
        await host.set_agent(box_policy=BoxPolicy(tools=("*",)))
        await until(lambda: host.parts.box_link.availability().available)
        yield host


def states(node: run_pb2.StopNode) -> dict[str, "run_pb2.StopState.ValueType"]:
    """Every thing below the run by its kind; one of each kind."""
    found = {}
    for child in node.children:
        found[child.kind] = child.state
        found |= states(child)
    return found


def call_of(command: str) -> pb.RunnerServiceCallToolRequest:
    request = pb.RunnerServiceCallToolRequest(name="exec", call_id="c1")
    request.arguments["command"] = command
    return request


async def starts_a_process(run: FakeRun) -> None:
    begin = process_pb2.StartProcessRequest(
        session_id="x", process_id="p1", command=process_pb2.Command(shell="sleep 1000")
    )
    started = await run.ask("run_box", pb.RunBoxRequest(start_process=begin))
    assert started.process.process_id == "p1", started


async def processes_of(host: Hosted, run: FakeRun) -> list[process_pb2.Process]:
    request = process_pb2.ListProcessesRequest(
        session_id=run.context.conversation.session_id, workspace_id="default", page_size=200
    )
    listed = await host.parts.box.processes.ListProcesses(request)
    return [one for one in listed.processes if one.state == process_pb2.PROCESS_STATE_RUNNING]


async def test_a_command_a_stream_and_a_process_in_the_box_are_asked_for_and_gone(
    boxed: Hosted, runtime: FakeRuntime
) -> None:
    begun = asyncio.Event()

    async def works(run: FakeRun) -> None:
        await starts_a_process(run)
        calls = [
            asyncio.create_task(run.ask_all("call_tool", call_of("touch begun; sleep 1000"))),
            asyncio.create_task(run.ask_all("run_box", start("touch streaming; sleep 1001", session_id="x"))),
        ]
        await run.ask_all(
            "run_box", start("until [ -e begun ] && [ -e streaming ]; do sleep 0.02; done", session_id="x")
        )
        begun.set()
        await obedient(run)
        for one in calls:
            one.cancel()

    runtime.script = works
    accepted = await boxed.submit()
    await begun.wait()
    assert len(await processes_of(boxed, runtime.runs[0])) == 1
    answer = await cancel(boxed, accepted.run_id)
    assert answer.receipt.complete, answer.receipt
    kinds = [child.kind for child in answer.receipt.root.children]
    assert sorted(kinds) == ["box_stream", "process", "process", "tool_call"]
    (call,) = [child for child in answer.receipt.root.children if child.kind == "tool_call"]
    assert [(one.kind, one.state) for one in call.children] == [("process", STOPPED)]
    assert not await processes_of(boxed, runtime.runs[0])
    session = await boxed.parts.box.sessions.GetSession(_session(runtime.runs[0]))
    assert session.session.running_count == 0


async def test_a_box_that_is_gone_cannot_say_and_the_receipt_says_so(
    boxed: Hosted, runtime: FakeRuntime, box: RealBox
) -> None:
    begun = asyncio.Event()

    async def works(run: FakeRun) -> None:
        await starts_a_process(run)
        begun.set()
        await obedient(run)

    runtime.script = works
    accepted = await boxed.submit()
    await begun.wait()
    box.kill()
    answer = await cancel(boxed, accepted.run_id)
    assert answer.run.state == run_pb2.RUN_STATE_CANCELLED and answer.receipt.root.state == STOPPED
    assert states(answer.receipt.root) == {"process": UNREACHABLE} and not answer.receipt.complete


async def test_a_pending_approval_is_withdrawn_with_its_run(boxed: Hosted, runtime: FakeRuntime) -> None:
    await boxed.set_agent(box_policy=BoxPolicy(tools=("*",)), resource_policy=ResourcePolicy(approved_tools=("exec",)))

    async def asks(run: FakeRun) -> None:
        asking = asyncio.create_task(run.ask_all("call_tool", call_of("touch never")))
        await obedient(run)
        asking.cancel()

    runtime.script = asks
    accepted = await boxed.submit()
    async for _ in _until_waiting(boxed, accepted.run_id):
        pass
    answer = await cancel(boxed, accepted.run_id)
    assert answer.receipt.complete, answer.receipt
    assert states(answer.receipt.root) == {"tool_call": STOPPED, "approval": STOPPED}


async def test_a_cancel_is_with_the_runner_within_a_moment(host: Hosted, runtime: FakeRuntime) -> None:
    heard: list[float] = []

    async def listens(run: FakeRun) -> None:
        await run.cancelled.wait()
        heard.append(time.monotonic())
        await run.send(run.result(run_failed={"error": {"code": "cancelled"}}))

    runtime.script = listens
    figures: list[float] = []
    for number in range(5):
        accepted = await host.submit(chat=f"chat-{number}")
        await until(lambda number=number: len(runtime.runs) == number + 1)  # type: ignore[misc]
        asked = time.monotonic()
        await cancel(host, accepted.run_id)
        figures.append(heard[-1] - asked)
    print(f"cancel to runner: {', '.join(f'{figure * 1000:.1f} ms' for figure in figures)}")
    assert max(figures) < CANCEL_SECONDS


async def test_a_runner_that_goes_on_after_its_cancel_delivers_nothing_late(host: Hosted, runtime: FakeRuntime) -> None:
    late: list[str] = []

    async def goes_on(run: FakeRun) -> None:
        try:
            await stubborn(run)
        finally:
            try:
                await run.answer("too late")
            except BaseException as error:
                late.append(type(error).__name__)
                raise

    runtime.script = goes_on
    accepted = await host.submit()
    await until(lambda: bool(runtime.runs))
    answer = await cancel(host, accepted.run_id)
    assert answer.run.state == run_pb2.RUN_STATE_CANCELLED and not answer.receipt.complete
    await until(lambda: runtime.recycled == ["tests/fake"])
    texts = [item.text for item in await host.transcript(accepted.conversation_id)]
    assert "too late" not in texts
    ledger = await host.watch(accepted.run_id)
    assert ledger[-1].WhichOneof("kind") == "run_failed"


async def _until_waiting(host: Hosted, run_id: str) -> AsyncIterator[run_pb2.RunEvent]:
    async for response in host.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run_id, committed_only=True)):
        for event in response.events:
            yield event
            if event.HasField("approval_requested"):
                return


def _session(run: FakeRun) -> Any:
    return session_pb2.GetSessionRequest(session_id=run.context.conversation.session_id, workspace_id="default")
