"""A run drives a command in its own session, and reads the files that its agent gives it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from portway.server.agents.types import BoxPolicy, ResourcePolicy
from portway.server.artifacts.store import add_artifact
from portway.server.artifacts.types import NewArtifact
from portway.server.storage_engine.clock import now
from portway.v1 import process_pb2, run_pb2
from portway.v1 import run_pull_pb2 as pb
from tests.deciding import decide, one_pending
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.sandbox import why_no_sandbox
from tests.server.hosting import WORKSPACE, Hosted, hosted
from tests.server.playing import played
from tests.server.tools.real_box import RealBox, running_box
from tests.waiting import until, until_told


@pytest.fixture(scope="module")
def real_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealBox]:
    if reason := why_no_sandbox():
        pytest.skip(f"no sandbox on this machine: {reason}")
    with running_box(tmp_path_factory.mktemp("box")) as box:
        yield box


@pytest.fixture
async def boxed(tmp_path: Path, runtime: FakeRuntime, real_box: RealBox) -> AsyncIterator[Hosted]:
    box: Any = real_box
    async with hosted(tmp_path, runtime, box=box) as host:
        await host.set_agent(box_policy=BoxPolicy(tools=("*",)))
        await until(lambda: host.parts.box_link.availability().available)
        yield host


def start(line: str, **more: Any) -> pb.RunBoxRequest:
    command = process_pb2.Command(shell=line)
    begin = process_pb2.ExecStart(command=command, **{"session_id": "own", **more})
    return pb.RunBoxRequest(exec=process_pb2.ExecRequest(start=begin))


async def test_a_command_gets_its_input_and_its_output_comes_back(boxed: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        # Another session's id in a frame means nothing.
        answers = await run.ask_all(
            "run_box",
            start("read line; echo got $line; exit 3", session_id="another", workspace_id="other"),
            pb.RunBoxRequest(exec=process_pb2.ExecRequest(stdin=b"words\n")),
            pb.RunBoxRequest(exec=process_pb2.ExecRequest(close_stdin=process_pb2.CloseStdin())),
        )
        frames = [one.run_box for one in answers]
        assert b"".join(one.exec.stdout for one in frames) == b"got words\n"
        assert sum(one.taken_bytes for one in frames) == 6
        assert frames[-1].exec.exit.exit_code == 3

    await played(boxed, runtime, script)


async def test_a_command_outlasts_the_time_that_a_person_takes(boxed: Hosted, runtime: FakeRuntime) -> None:
    """The run's clock stands still, and so does what bounds a command that is under way."""
    await boxed.set_agent(box_policy=BoxPolicy(tools=("*",)), timeout_seconds=3.0)

    async def script(run: FakeRun) -> None:
        slow = start("touch begun; until [ -e allowed ]; do sleep 0.02; done; echo outlasted")
        slow.exec.start.command.longest_time = True
        under_way = asyncio.ensure_future(run.ask_all("run_box", slow))
        await run.ask_all("run_box", start("until [ -e begun ]; do sleep 0.02; done"))
        assert await run.ask("request_approval", pb.RequestApprovalRequest(request_id="a", subject="x", title="y?"))
        await run.ask_all("run_box", start("touch allowed"))
        assert said(await under_way) == b"outlasted\n"
        await run.answer("done")

    runtime.script = script
    accepted = await boxed.submit()
    approval = await one_pending(boxed.runs)
    over = (await boxed.parts.stores.runs.run("default", accepted.run_id)).deadline
    await until(lambda: now() > over)
    await decide(boxed.runs, approval)
    run = await boxed.ended(accepted.run_id)
    assert run.state == run_pb2.RUN_STATE_COMPLETED, run.error


def said(answers: list[Any]) -> bytes:
    return b"".join(one.run_box.exec.stdout for one in answers)


def input_of(size: int, frames: int) -> list[pb.RunBoxRequest]:
    return [pb.RunBoxRequest(exec=process_pb2.ExecRequest(stdin=b"x" * size))] * frames


async def test_a_mebibyte_may_be_under_way_and_more_ends_only_its_own_call(boxed: Hosted, runtime: FakeRuntime) -> None:
    close = pb.RunBoxRequest(exec=process_pb2.ExecRequest(close_stdin=process_pb2.CloseStdin()))

    async def script(run: FakeRun) -> None:
        answers = await run.ask_all("run_box", start("sleep 0.2; wc -c"), *input_of(1024, 1024), close)
        assert said(answers).split() == [b"1048576"]
        assert sum(one.run_box.taken_bytes for one in answers) == 1_048_576
        flooded = await run.ask("run_box", start("sleep 600"), *input_of(1_048_576, 32), close)
        assert flooded.code == 8 and "taken_bytes" in flooded.message
        assert said(await run.ask_all("run_box", start("echo still here"))) == b"still here\n"

    await played(boxed, runtime, script)


async def test_a_terminal_has_its_size_and_signals_arrive(boxed: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        begin = start("stty size; read word; stty size")
        begin.exec.start.command.terminal.rows, begin.exec.start.command.terminal.columns = 40, 100
        size = process_pb2.TerminalSize(rows=50, columns=120)
        answers = await run.ask_all(
            "run_box",
            begin,
            pb.RunBoxRequest(exec=process_pb2.ExecRequest(resize=size)),
            pb.RunBoxRequest(exec=process_pb2.ExecRequest(stdin=b"go\n")),
        )
        assert b"50 120" in said(answers)
        killed = await run.ask_all(
            "run_box", start("exec sleep 600"), pb.RunBoxRequest(exec=process_pb2.ExecRequest(signal=15))
        )
        assert killed[-1].run_box.exec.exit.status == process_pb2.EXIT_STATUS_KILLED

    await played(boxed, runtime, script)


async def test_a_cancelled_command_is_killed(boxed: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        async def ticks() -> bytes:
            return said(await run.ask_all("run_box", start("wc -c < ticks")))

        line = "while true; do printf x >> ticks; sleep 0.01; done"
        calling = asyncio.create_task(run.ask_all("run_box", start(line)))
        await until(lambda: run.last_call == 1)

        async def begun() -> bool:
            return await ticks() != b""

        async def stands_still() -> bool:
            return await ticks() == await ticks()

        await until_told(begun)
        await run.cancel_call(1)
        assert (await calling)[-1].error.code == 1
        await until_told(stands_still)

    await played(boxed, runtime, script)


async def test_a_lost_box_is_told_and_no_success(tmp_path: Path, runtime: FakeRuntime) -> None:
    if reason := why_no_sandbox():
        pytest.skip(f"no sandbox on this machine: {reason}")
    with running_box(tmp_path) as own:
        box: Any = own
        async with hosted(tmp_path, runtime, box=box) as host:
            await host.set_agent(box_policy=BoxPolicy(tools=("*",)))
            await until(lambda: host.parts.box_link.availability().available)

            async def script(run: FakeRun) -> None:
                calling = asyncio.create_task(run.ask_all("run_box", start("echo begun; sleep 600")))
                assert said(await run.ask_all("run_box", start("echo there"))) == b"there\n"
                own.kill()
                lost = (await calling)[-1]
                assert lost.error.code == 14

            await played(host, runtime, script)
            own.start()


async def test_a_process_is_started_and_stopped_in_the_session(boxed: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        begin = process_pb2.StartProcessRequest(
            session_id="x", process_id="p1", command=process_pb2.Command(shell="sleep 60")
        )
        started = await run.ask("run_box", pb.RunBoxRequest(start_process=begin))
        assert started.process.session_id == run.context.conversation.session_id
        end = process_pb2.StopProcessRequest(session_id="x", process_id="p1")
        stopped = await run.ask("run_box", pb.RunBoxRequest(stop_process=end))
        assert stopped.process.state == process_pb2.PROCESS_STATE_EXITED

    await played(boxed, runtime, script)


async def test_without_a_box_policy_a_run_has_no_box(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        refused = await run.ask("run_box", start("true", session_id="x"))
        assert refused.code == 7 and "box" in refused.message

    await played(host, runtime, script)


async def test_files_of_the_policy_are_read_and_others_do_not_exist(host: Hosted, runtime: FakeRuntime) -> None:
    blob = await host.parts.stores.blobs.put(WORKSPACE, b"0123456789")
    given = NewArtifact(
        workspace_id=WORKSPACE,
        artifact_id="art_given",
        name="facts.txt",
        mime_type="text/plain",
        kind="text",
        size=blob.size,
        sha256=blob.sha256,
        summary="",
        event_id="",
        run_id="",
        conversation_id="",
        creator="operator",
        expire_time=0,
    )
    other = dataclasses.replace(given, artifact_id="art_other")
    writer = host.parts.stores.database.writer
    await writer.run(lambda tx: add_artifact(tx, given))
    await writer.run(lambda tx: add_artifact(tx, other))
    await host.set_agent(resource_policy=ResourcePolicy(file_ids=("art_given",)))

    async def script(run: FakeRun) -> None:
        found = await run.ask("get_file", pb.GetFileRequest(file_id="art_given"))
        assert (found.file.name, found.file.size) == ("facts.txt", 10)
        pieces = await run.ask_all(
            "read_file", pb.RunnerServiceReadFileRequest(file_id="art_given", offset=2, length=3)
        )
        assert b"".join(one.read_file.data for one in pieces) == b"234"
        beyond = await run.ask("read_file", pb.RunnerServiceReadFileRequest(file_id="art_given", offset=11))
        assert beyond.code == 11
        missing = await run.ask("get_file", pb.GetFileRequest(file_id="art_other"))
        assert missing.code == 5

    await played(host, runtime, script)
